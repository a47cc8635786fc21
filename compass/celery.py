"""The Celery application; each room's tasks are found by name."""

from __future__ import annotations

import os

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")

app = Celery("compass")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["registry", "training", "inference"])


@signals.celeryd_init.connect
def _become_a_node(**_: object) -> None:
    from compass import worker  # noqa: F401
