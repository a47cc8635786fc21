"""The placement: which waiting task goes to which node, and why the others wait.

Pure: it reads no database and no clock. docs/scheduling.md has its rules.
"""

from __future__ import annotations

from registry.placement.planner import place
from registry.placement.terms import (
    Absent,
    Booking,
    Demand,
    Gpu,
    Holding,
    Kept,
    Limit,
    Offer,
    Place,
    Plan,
)

__all__ = [
    "Absent",
    "Booking",
    "Demand",
    "Gpu",
    "Holding",
    "Kept",
    "Limit",
    "Offer",
    "Place",
    "Plan",
    "place",
]
