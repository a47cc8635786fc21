"""How a Celery process of the stack tells the stack that it is ready.

Celery imports this module in every worker and in beat (CELERY_IMPORTS). Elsewhere than in
the stack there is no pipe to write to, and it does nothing.
"""

from __future__ import annotations

import os

from celery.signals import beat_init, worker_ready

READY_FD = "COMPASS_READY_FD"


@worker_ready.connect(weak=False)
@beat_init.connect(weak=False)
def tell(**_: object) -> None:
    descriptor = os.environ.pop(READY_FD, "")
    if descriptor:
        os.write(int(descriptor), b"1")
        os.close(int(descriptor))
