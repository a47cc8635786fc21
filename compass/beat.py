"""The clock of the regular duties."""

from __future__ import annotations

from celery.beat import PersistentScheduler


class Scheduler(PersistentScheduler):
    """Celery's own, but a duty that was never done is due at once, not one interval later."""

    def setup_schedule(self) -> None:
        super().setup_schedule()
        for entry in self.schedule.values():
            interval = getattr(entry.schedule, "run_every", None)  # a crontab has none
            if entry.total_run_count == 0 and interval is not None:
                entry.last_run_at -= interval
