"""What a user may ask of a task: met at once where nobody runs it, else a wish in the row."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Coalesce

from registry import clock
from registry.models.change import Change
from registry.states import FINAL, LIVE, Move, State


class Wishes(Change):
    """The verbs of the user; none of them needs the attempt."""

    class Meta:
        abstract = True

    def request_cancel(self) -> None:
        """Cancel at once if nobody runs it; otherwise ask its supervisor to stop it."""
        moment = clock.now()
        said = "Cancelled on request; nothing was running."
        with transaction.atomic():
            self._write(
                self._rows(LIVE),
                "request_cancel",
                at=moment,
                cancel_requested_at=Coalesce("cancel_requested_at", Value(moment)),
                state=self._unless_running("state", State.CANCELLED),
                finished_at=self._unless_running("finished_at", moment),
                reason=self._unless_running("reason", "cancelled_by_user"),
                message=self._unless_running("message", said),
                waiting_for=[],
            )
            if self.state in FINAL:
                self._end_attempt({}, reason=self.reason, message=self.message)

    def request_pause(self) -> None:
        """Ask its supervisor to checkpoint and let go."""
        asked = Coalesce("pause_requested_at", Value(clock.now()))
        rows = self._rows({State.RUNNING}).filter(array_size=None)
        self._write(rows, "request_pause", pause_requested_at=asked)

    def request_release(self) -> None:
        """Ask its supervisor to checkpoint and let it go on elsewhere."""
        asked = Coalesce("release_requested_at", Value(clock.now()))
        rows = self._rows({State.RUNNING}).filter(array_size=None)
        self._write(rows, "request_release", release_requested_at=asked)

    def resume(self) -> None:
        rows = self._rows(Move.RESUME.sources)
        self._write(rows, "resume", state=Move.RESUME.target, not_before=None)

    def retry(self, *, start_over: bool = False) -> None:
        """Begin a failed or cancelled task again, from its checkpoint if it has one."""
        with transaction.atomic():
            if self.array is not None:
                self.array.hold()  # or it could end while this is live again
            # What it depends on is looked at anew; of what was deleted the verdict stays.
            self.dependencies.exclude(on=None).update(met=None)
            held = self.dependencies.exclude(met=True).exists()
            rows = self._rows(Move.RETRY.sources)
            self._write(rows, "retry", **as_new(start_over=start_over, held=held))
            if self.array is not None and self.array.state in FINAL:
                self.array.reopen()


def as_new(*, start_over: bool, held: bool) -> dict[str, Any]:
    """The fields of a task that begins again."""
    fresh: dict[str, Any] = {"progress": {}, "metrics": {}} if start_over else {}
    return {
        "state": Move.RETRY.target,
        "held": held,
        "finished_at": None,
        "cancel_requested_at": None,
        "pause_requested_at": None,
        "release_requested_at": None,
        "reason": "",
        "message": "",
        "retries": 0,
        "releases": 0,
        "not_before": None,
        "waiting_for": [],
        "estimated_start": None,
        "result": {},
        "resume_from": "start" if start_over else "checkpoint",
        **fresh,
    }
