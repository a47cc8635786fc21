"""Classification or regression from any CSV."""

from __future__ import annotations
