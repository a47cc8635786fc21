"""Django behind granian; loaded once in each web worker."""

from __future__ import annotations

import gc
import os
from multiprocessing import parent_process

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from compass import core, idle
from compass.bodies import Patient
from registry.forks import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")

granian = parent_process()
if "COMPASS_STACK" in os.environ and granian is not None:
    # Its workers are its children, not the stack's, and it may have died since their fork.
    die_with_parent(granian.pid)

application = Patient(get_wsgi_application())

from inference import traffic  # noqa: E402  (needs the models)
from registry import dispatcher, passes  # noqa: E402

dispatcher.have_done(passes.Elsewhere())
idle.watch()
traffic.begin()
if granian is not None and settings.ENVIRONMENT.pin_cpus:
    core.watch()
assert get_resolver().url_patterns  # imports every page now, not at the first request
# What is there by now stays, and an answer leaves little behind that only a search finds.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
