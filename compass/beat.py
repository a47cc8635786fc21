"""The clock of the regular duties."""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.beat import PersistentScheduler

from compass import loop


class Scheduler(PersistentScheduler):
    """Celery's own, but a duty that was never done is due at once, not one interval later.

    A tick that stands still is looked after as the main loop of a worker is.
    """

    def setup_schedule(self) -> None:
        super().setup_schedule()
        for entry in self.schedule.values():
            interval = getattr(entry.schedule, "run_every", None)  # a crontab has none
            if entry.total_run_count == 0 and interval is not None:
                entry.last_run_at -= interval

    def tick(self, *args: Any, **options: Any) -> Any:
        self._look_after()
        try:
            return super().tick(*args, **options)
        finally:
            loop.WATCH.pause()

    def _ensure_connected(self) -> Any:
        loop.WATCH.pause()  # the broker may be away as long as it likes
        try:
            return super()._ensure_connected()  # type: ignore[misc]  # not in the stubs
        finally:
            self._look_after()

    def _look_after(self) -> None:
        loop.WATCH.begin(lambda: loop.cut(self))


@signals.beat_init.connect
def _begin(**_: Any) -> None:
    loop.WATCH.start()
