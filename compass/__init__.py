"""Compass: trains PyTorch models and serves them."""

from __future__ import annotations

from compass.celery import app as celery_app

__all__ = ["celery_app"]
__version__ = "0.1.0"
