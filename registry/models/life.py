"""The verbs of a task: each change of state is one guarded UPDATE with its event."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q

from registry import clock, plain
from registry.kinds import KINDS
from registry.models.array import Array
from registry.models.change import Stale
from registry.models.wishes import Wishes
from registry.states import LIVE, REASONS, Move, Retry, State

if TYPE_CHECKING:
    from registry.models.node import Node

MAX_RELEASES = 30  # placements that a task may lose without any fault of its own
UNCOUNTED = ("no_room",)  # what never began costs nothing
BACK_OFF = datetime.timedelta(seconds=2)  # doubled with each retry
LONGEST_WAIT = datetime.timedelta(minutes=10)
NOT_AGAIN = "A script that has begun is not run again unless it asks for retries."


def placed_on(node: Node, moment: datetime.datetime) -> dict[str, Any]:
    """What a row says once it is assigned, besides its state and its attempt."""
    return {
        "node": node,
        "assigned_at": moment,
        "sent_at": moment,
        "started_at": None,
        "beat_at": None,
        "not_before": None,
        "release_requested_at": None,
        "waiting_for": [],
        "estimated_start": None,
        "reason": "",
        "message": "",
    }


class Life(Array, Wishes):
    """What may happen to a task. A worker's verbs hold its attempt in their WHERE."""

    class Meta:
        abstract = True

    # Verbs of the scheduler

    def assign(self, node: Node, gpus: Sequence[int] = ()) -> None:
        """Place it on the node and those of its GPUs; the attempt that begins here
        fences all later writes."""
        moment = clock.now()
        with transaction.atomic():
            self._move(
                Move.ASSIGN,
                at=moment,
                say=f"On {node.name}.",
                attempt=F("attempt") + 1,
                **placed_on(node, moment),
            )
            self.attempts.create(
                number=self.attempt,
                node=node,
                incarnation=node.incarnation,
                gpus=list(gpus),
                assigned_at=moment,
            )

    def let_go(self) -> None:
        """Stand in line, for what it waited for has come."""
        with transaction.atomic():
            rows = self._rows({State.PENDING}).filter(held=True)
            self._write(rows, "let_go", held=False, waiting_for=[])
            self.elements.filter(held=True).update(held=False)

    def forgo(self, reason: str, message: str) -> None:
        """End it unplaced, for what it waits for can no longer come."""
        self._finish(Move.FORGO, {}, reason=reason, message=message)

    # Verbs of the supervisor

    def start(self, node: Node) -> None:
        """Claim it for this life of the node; a second delivery finds it Stale."""
        moment = clock.now()
        # Not a join: PostgreSQL would not look at the state again after waiting for the
        # row, and every start of a doubled message would win.
        by = node.incarnation
        mine = Q(node__in=type(node).objects.filter(pk=node.pk, incarnation=by))
        begun = {"started_at": moment, "beat_at": moment}
        with transaction.atomic():
            self._move(Move.START, also=mine, at=moment, **begun)
            self._live_attempt().update(started_at=moment, incarnation=by)

    def beat(self, **changes: Any) -> None:
        """Show that its supervisor lives, with what changed: progress, metrics."""
        rows = self._this_attempt({State.RUNNING})
        if rows.update(beat_at=clock.now(), **changes) != 1:
            raise Stale(f"task {self.pk}: attempt {self.attempt} is over")
        self.refresh_from_db()

    def complete(self, result: dict[str, Any], **attempt: Any) -> None:
        """End it well; Stale once its owner has asked to cancel it."""
        unasked = Q(cancel_requested_at=None)
        self._finish(Move.COMPLETE, attempt, also=unasked, result=result)

    def fail(self, reason: str, message: str, **attempt: Any) -> None:
        """End it, or where the reason allows another try put it back in line."""
        because = REASONS[reason]
        if because.retry is Retry.FREE:
            return self.release(reason, message, **attempt)
        message = (
            plain.text(message).strip()
            or f"It failed ({reason}) and gave no more words."
        )
        with transaction.atomic():
            self._lock(Move.FAIL)
            if self.cancel_requested_at:
                self.cancel(f"Cancelled on request. {message}", **attempt)
            elif because.retry is Retry.NEVER or self.retries >= self.max_retries:
                self._finish(Move.FAIL, attempt, reason=reason, message=message)
            else:
                wait = min(BACK_OFF * 2 ** min(self.retries, 20), LONGEST_WAIT)
                wait *= random.uniform(0.8, 1.2)  # noqa: S311
                retries = F("retries") + 1
                self._put_back(reason, message, attempt, wait=wait, retries=retries)
        return None

    def release(
        self,
        reason: str,
        message: str,
        *,
        wait: datetime.timedelta | None = None,
        **attempt: Any,
    ) -> None:
        """Give its resources back and wait again; a wish to cancel or pause is met."""
        in_vain = F("releases") + int(reason not in UNCOUNTED)
        message = plain.text(message)
        with transaction.atomic():
            self._lock(Move.RELEASE)
            if self.cancel_requested_at:
                self.cancel(f"Cancelled on request. {message}", **attempt)
            elif self.state == State.RUNNING and not self.may_run_again():
                message = f"{message} {NOT_AGAIN}"
                self._finish(Move.FAIL, attempt, reason=reason, message=message)
            elif self.releases >= MAX_RELEASES and reason not in UNCOUNTED:
                message = f"{message} It was placed {MAX_RELEASES} times in vain."
                self._finish(Move.FAIL, attempt, reason=reason, message=message)
            else:
                self._put_back(reason, message, attempt, wait=wait, releases=in_vain)

    def cancel(self, message: str = "Cancelled on request.", **attempt: Any) -> None:
        """End it as its supervisor, after the job is gone."""
        self._finish(Move.CANCEL, attempt, reason="cancelled_by_user", message=message)

    def pause(self, message: str = "Paused on request.", **attempt: Any) -> None:
        """Let go at a checkpoint, as its supervisor."""
        with transaction.atomic():
            self._lock(Move.PAUSE)
            if self.cancel_requested_at:
                return self.cancel(f"Cancelled on request. {message}", **attempt)
            self._move(
                Move.PAUSE,
                say=message,
                pause_requested_at=None,
                release_requested_at=None,
                beat_at=None,
            )
            self._end_attempt(attempt, message=message)
        return None

    def remark(self, verb: str, message: str = "") -> None:
        """Append one line as this attempt's supervisor; Stale once the attempt is over."""
        with transaction.atomic():
            if not self._this_attempt(LIVE).select_for_update().exists():
                raise Stale(f"task {self.pk}: attempt {self.attempt} is over")
            self.note(verb, message)

    def may_run_again(self) -> bool:
        """Whether it is run again by itself once it has begun."""
        return KINDS[self.kind].is_repeatable or self.max_retries > 0

    def _finish(self, move: Move, attempt: dict[str, Any], **changes: Any) -> None:
        moment = clock.now()
        with transaction.atomic():
            self._move(
                move,
                at=moment,
                say=changes.get("message", ""),
                finished_at=moment,
                pause_requested_at=None,
                release_requested_at=None,
                held=False,
                **changes,
            )
            self._end_attempt(attempt, reason=self.reason, message=self.message)

    def _put_back(
        self,
        reason: str,
        message: str,
        attempt: dict[str, Any],
        *,
        wait: datetime.timedelta | None = None,
        **changes: Any,
    ) -> None:
        if self.pause_requested_at and self.state == State.RUNNING:
            return self.pause(f"Paused on request. {message}", **attempt)
        moment = clock.now()
        again = moment + wait if wait else None
        self._move(
            Move.RELEASE,
            at=moment,
            say=message,
            reason=reason,
            message=message,
            not_before=again,
            estimated_start=again,
            beat_at=None,
            release_requested_at=None,
            resume_from="checkpoint",
            **changes,
        )
        return self._end_attempt(attempt, reason=reason, message=message)
