"""Which worker computes which shard: claims in the database, by its clock, that run out."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Sum

from inference.models import Shard, ShardQuerySet
from registry import clock, rows
from registry.models import Node, Stale, Task
from registry.models.task import TaskQuerySet
from registry.states import State

HELD = datetime.timedelta(
    seconds=15
)  # without a sign of life; then another may take it
UNTOUCHED = {
    "cancel_requested_at": None,
    "pause_requested_at": None,
    "release_requested_at": None,
}


@dataclass(frozen=True)
class Claims:
    """The shards of one task as one life of a worker sees them; `backwards` takes the last first."""

    task: int
    attempt: int
    holder: str
    backwards: bool = False

    def divide(self, count: int) -> None:
        """Make `count` shards, unless an earlier attempt has."""
        with transaction.atomic():
            self._hold_task()
            if not Shard.objects.filter(task_id=self.task).exists():
                shards = [Shard(task_id=self.task, number=n) for n in range(count)]
                rows.insert_all(shards)

    def take(self, most: int, done: Mapping[int, int]) -> list[int]:
        """Note what is done, by number with the items that failed, and take up to `most` more.

        Raises Stale if this attempt of the task is over, or asked to end.
        """
        with transaction.atomic():
            self._note(done)
            if not self._running().filter(**UNTOUCHED).exists():
                raise Stale(f"task {self.task}: attempt {self.attempt} takes no shards")
            moment = clock.now()
            free = Shard.objects.filter(task_id=self.task).open(moment)
            order = "-number" if self.backwards else "number"
            free = free.select_for_update(skip_locked=True).order_by(order)
            numbers = sorted(free.values_list("number", flat=True)[:most])
            if numbers:
                self._numbered(numbers).update(
                    holder=self.holder, held_until=moment + HELD
                )
        return numbers

    def keep(self) -> bool:
        """Hold on to what was taken; False if the attempt is over or asked to end."""
        mine = Shard.objects.filter(task_id=self.task, holder=self.holder)
        mine.undone().update(held_until=clock.now() + HELD)
        return self._running().filter(**UNTOUCHED).exists()

    def give_back(self, done: Mapping[int, int]) -> None:
        """Note what is done, and leave the rest of what was taken to others at once."""
        with transaction.atomic():
            self._note(done)
            mine = Shard.objects.filter(task_id=self.task, holder=self.holder)
            mine.undone().update(held_until=None)

    def held(self) -> int:
        """How many shards are held in this life's name and not done."""
        mine = Shard.objects.filter(task_id=self.task, holder=self.holder).undone()
        return mine.filter(held_until__gt=clock.now()).count()

    def note(self, done: Mapping[int, int]) -> None:
        """Note what is done, by number with the items that failed."""
        with transaction.atomic():
            self._note(done)

    def seize(self) -> None:
        """Have all that is not done to oneself, whoever has taken it."""
        undone = Shard.objects.filter(task_id=self.task).undone()
        undone.update(held_until=None)

    def reopen(self, numbers: Sequence[int]) -> None:
        """Have shards computed again whose files are gone."""
        self._numbered(numbers).update(done_at=None, held_until=None, failed=0)

    def forget(self) -> None:
        """Drop all shards: the batch is over, or begins again."""
        Shard.objects.filter(task_id=self.task).delete()

    def count(self) -> int:
        return Shard.objects.filter(task_id=self.task).count()

    def done(self) -> int:
        """How many shards are done, whoever did them."""
        return Shard.objects.filter(task_id=self.task, done_at__isnull=False).count()

    def failed(self) -> int:
        """Items without an answer in all shards."""
        sums = Shard.objects.filter(task_id=self.task).aggregate(all=Sum("failed"))
        return int(sums["all"] or 0)

    def _note(self, done: Mapping[int, int]) -> None:
        numbers: dict[int, list[int]] = {}
        for number, failed in sorted(done.items()):
            numbers.setdefault(failed, []).append(number)
        for failed, some in numbers.items():
            # Whoever did it first: all give the same answers.
            self._numbered(some).undone().update(done_at=clock.now(), failed=failed)

    def _numbered(self, numbers: Sequence[int]) -> ShardQuerySet:
        return Shard.objects.filter(task_id=self.task, number__in=numbers)

    def _running(self) -> TaskQuerySet:
        return Task.objects.filter(
            pk=self.task, attempt=self.attempt, state=State.RUNNING
        )

    def _hold_task(self) -> None:
        if not self._running().select_for_update(no_key=True).exists():
            raise Stale(f"task {self.task}: attempt {self.attempt} is over")


def in_need(node: Node, declined: Collection[int] = ()) -> Task | None:
    """The first running batch of another worker that has shards nobody computes, but for those
    that were declined."""
    moment = clock.now()
    waiting = Shard.objects.open(moment).values("task")
    running = Task.objects.filter(state=State.RUNNING, pk__in=waiting, **UNTOUCHED)
    running = running.exclude(node=node).exclude(pk__in=declined)
    return running.order_by("-priority", "pk").first()
