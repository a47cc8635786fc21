"""Reservations: what is kept on a node for some users from a time to a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from registry.placement.ledger import Ledger, end_of_demand
from registry.placement.terms import Booking, Demand
from registry.resources import Resources


def open_windows(ledgers: Sequence[Ledger], bookings: Iterable[Booking]) -> None:
    """Lay each booking on its node; one without a node on the smallest that holds it.

    That choice hangs on sizes alone, so it is the same in every pass.
    """
    by_size = sorted(ledgers, key=lambda one: (_size(one.capacity), one.node))
    for booking in sorted(bookings, key=lambda one: (one.starts, one.name)):
        if booking.ends <= 0:
            continue
        for ledger in by_size:
            if ledger.lane != booking.lane or booking.node not in (None, ledger.node):
                continue
            needs = booking.needs or ledger.capacity
            if booking.node or needs.fits(_unbooked(ledger, booking)):
                laid = replace(booking, node=ledger.node, needs=needs)
                ledger.windows.append(laid)
                break


def blocking(ledger: Ledger, demand: Demand, at: float = 0.0) -> Booking | None:
    """The booking that keeps it from starting there at that time, if there is one.

    It may use what is booked for others only if its time limit ends before the window
    opens; what the booking's own users hold there counts as used of what is booked.
    """
    if not ledger.windows:
        return None
    others = [
        one
        for one in ledger.windows
        if demand.owner not in one.owners
        and one.ends > at
        and one.starts < at + end_of_demand(demand, guesses=False)
    ]
    for moment in sorted({max(one.starts, at) for one in others}):
        active = [one for one in others if one.starts <= moment < one.ends]
        left = replace(ledger.capacity, gpus=ledger.usable).minus(
            ledger.held_at(moment)
        )
        for one in active:
            left = left.minus(_unused(ledger, one, moment))
        if not _fits(demand.needs, left):
            return active[0]
    return None


def after_windows(ledger: Ledger, demand: Demand, start: float) -> float:
    """The first moment from `start` on when no booking keeps it from starting."""
    while start < inf and (booking := blocking(ledger, demand, start)):
        start = booking.ends
    return start


def _unused(ledger: Ledger, booking: Booking, moment: float) -> Resources:
    held, needs = ledger.held_at(moment, booking.owners), booking.needs
    assert needs is not None
    return Resources(
        max(0, needs.cpus - held.cpus),
        max(0, needs.gpus - held.gpus),
        max(0, needs.memory - held.memory),
    )


def _unbooked(ledger: Ledger, booking: Booking) -> Resources:
    """What earlier bookings leave of the node in that time."""
    left = ledger.capacity
    for one in ledger.windows:
        if one.starts < booking.ends and booking.starts < one.ends and one.needs:
            left = left.minus(one.needs)
    return left


def _fits(needs: Resources, left: Resources) -> bool:
    return (
        (needs.cpus <= left.cpus or not needs.cpus)
        and (needs.gpus <= left.gpus or not needs.gpus)
        and (needs.memory <= left.memory or not needs.memory)
    )


def _size(size: Resources) -> tuple[int, int, int]:
    return (size.gpus, size.cpus, size.memory)
