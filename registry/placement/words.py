"""The sentences that tell why a task waits. They stay the same from pass to pass."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from math import inf

from registry.placement.ledger import Ledger
from registry.placement.limits import Excess, limit_words
from registry.placement.promise import Promise
from registry.placement.sizes import (
    Size,
    asked_and_had,
    count,
    gib,
    gpus_of,
    join,
    lacking,
    lacks,
)
from registry.placement.terms import Absent, Booking, Demand
from registry.resources import Resources

STEPS = [step * 10**scale for scale in range(1, 7) for step in (1, 2, 5)]


class Clockface:
    """Writes times as people read them, to the minute, in UTC."""

    def __init__(self, moment: datetime.datetime) -> None:
        self.moment = moment.astimezone(datetime.UTC)
        self._known: dict[float, str] = {}

    def __call__(self, seconds: float) -> str:
        """Seconds from the pass's moment as "14:32 UTC", with the date when not today."""
        words = self._known.get(seconds)
        if words is None:
            words = self._known[seconds] = f"{self.bare(seconds)} UTC"
        return words

    def bare(self, seconds: float) -> str:
        try:
            at = self.moment + datetime.timedelta(seconds=seconds)
        except OverflowError:
            return "a far day"
        # To the second first: the same end must not fall to either side of a minute.
        at = (at + datetime.timedelta(microseconds=500_000)).replace(microsecond=0)
        at = (at + datetime.timedelta(seconds=30)).replace(second=0)
        return at.strftime(
            "%H:%M" if at.date() == self.moment.date() else "%Y-%m-%d %H:%M"
        )


def no_worker(lane: str) -> str:
    return f"No {lane} worker is up."


def short_of(ledger: Ledger, needs: Resources, end: float, clock: Clockface) -> str:
    """What the node lacks for it now, and until when by what is known."""
    gpus = ledger.count_gpus(needs.gpu_memory)
    short = lacks(needs, ledger.cpus, gpus, ledger.memory)
    asked, free = asked_and_had(short)
    if end == inf:
        until = " until others end, at a time that is not known"
    else:
        task = ledger.track(guesses=True).last_to_end(needs)
        until = f" until task {task} ends, about {clock(end)}" if task else ""
    return f"Needs {asked}; {ledger.node} has {free} free{until}."


def short_of_all(lane: str, needs: Resources) -> str:
    """For a task among very many different ones: what the whole lane lacks."""
    return f"Needs {_all_of(needs)}; no {lane} worker has that free now."


def too_large(size: Size, needs: Resources, lane: str) -> str:
    """That no node that is up could ever hold it, and what the closest one has."""
    asked, has = asked_and_had(lacking(size, needs))
    return f"Needs {asked}; the largest {lane} worker for it, {size.node}, has {has}."


def absent(node: Absent) -> str:
    return f"{node.node} could hold it, but it {node.why}."


def more_absent(number: int) -> str:
    which = "One more node" if number == 1 else f"{number} more nodes"
    return f"{which} could hold it, but took no work lately."


def busy_gpus(ledger: Ledger, needs: Resources) -> list[str]:
    """Who outside Compass uses those that would do for it."""
    said = [
        f"On {ledger.node}, {_sentence(gpu.busy)}"
        for gpu in ledger.gpus.values()
        if gpu.busy and gpu.memory >= needs.gpu_memory
    ]
    return list(dict.fromkeys(said))  # one process may use several


def would_delay(promise: Promise, clock: Clockface) -> str:
    first = f"Would delay task {promise.demand.task}, which is first in line for "
    if promise.starts == inf:
        return f"{first}{promise.ledger.node}."
    return f"{first}{promise.ledger.node} at about {clock(promise.starts)}."


def booked(booking: Booking, ledger: Ledger, demand: Demand, clock: Clockface) -> str:
    needs = booking.needs or ledger.capacity
    whole = ledger.capacity
    parts = [
        count(needs.cpus, "CPU") if needs.cpus else "",
        count(needs.gpus, "GPU") if needs.gpus else "",
        f"{gib(needs.memory)} of memory" if needs.memory else "",
    ]
    if (needs.cpus, needs.gpus, needs.memory) == (whole.cpus, whole.gpus, whole.memory):
        what = f"{ledger.node} is"
    else:
        what = f"{join([part for part in parts if part])} of {ledger.node} are"
    until = clock(booking.ends)
    since = clock.bare(booking.starts)
    tail = ""
    if booking.starts > 0 and not demand.is_limit:
        tail = ", and this task has no time limit"
    return f"{what} reserved as {booking.name} from {since} to {until}{tail}."


def limited(
    excess: Excess, demand: Demand, end: float, task: int, clock: Clockface
) -> str:
    whole, left = limit_words(excess)
    if excess.asked > excess.limit:
        asks = count(excess.asked, excess.what)
        return f"Your limit is {whole}, and this task asks for {asks}."
    if end == inf:
        return (
            f"Your limit is {whole}; you may use {left} until one of your tasks ends."
        )
    until = f"until task {task} ends, about {clock(end)}"
    return f"Your limit is {whole}; you may use {left} {until}."


def goes_first(task: int, *, is_higher: bool) -> str:
    return f"Task {task}{' of higher priority' if is_higher else ''} goes first."


def line_before(number: int) -> str:
    """How long the line before it is, in steps of 1, 2 and 5, so that it seldom changes."""
    step = STEPS[bisect_right(STEPS, number) - 1]
    return f"More than {step - 1} tasks are before it in the line."


def more_nodes(number: int) -> str:
    which = "One more node has" if number == 1 else f"And {number} more nodes have"
    return f"{which} too little free."


def _all_of(needs: Resources) -> str:
    parts = [count(needs.cpus, "CPU")] if needs.cpus else []
    parts += [gpus_of(needs)] if needs.gpus else []
    parts += [f"{gib(needs.memory)} of memory"] if needs.memory else []
    return join(parts) or "a place"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."
