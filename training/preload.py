"""Imports that every training needs, made once in the warm process before any job forks.

The first optimizer step imports `torch._dynamo`, 1.5 s when cold.
"""

from __future__ import annotations

import contextlib
import importlib

import torch  # noqa: F401

MODULES = ("torch._dynamo", "training.trainer", "training.recipes.affinity.fit")

for name in MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
