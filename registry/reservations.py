"""Reservations: what may be kept on a node, or on one node of a lane, in a time window."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from registry import clock
from registry.errors import Problem
from registry.locks import lock_until_commit
from registry.models import Node, Reservation
from registry.resources import GIB, Resources

LONGEST = datetime.timedelta(days=366)
AHEAD = datetime.timedelta(days=5 * 366)
AMOUNTS = ("cpus", "gpus", "memory")


def save(asked: Mapping[str, Any], row: Reservation | None = None) -> Reservation:
    """Make or change a reservation; what is not asked stays as it is.

    `node` is a name and `users` are names. Raises Problem `invalid` with the fields, or `conflict`.
    """
    with transaction.atomic():
        lock_until_commit("reservations")
        new = row or Reservation(starts_at=clock.now())
        users = _fill(new, asked)
        check(new)
        new.save()
        if users is not None:
            new.users.set(users)
    return new


def check(new: Reservation) -> None:
    """What a form cannot know. Raises Problem `invalid` with the fields, or `conflict`."""
    if (field := _wrong_window(new)) is not None:
        name, text = field
        raise _invalid(name, text)
    if new.node is None and not any(getattr(new, name) for name in AMOUNTS):
        raise _invalid("resources", "name a node, or how much of a lane")
    others = Reservation.objects.exclude(pk=new.pk).filter(lane=new.lane)
    if Reservation.objects.exclude(pk=new.pk).filter(name=new.name).exists():
        raise Problem("conflict", f"There is a reservation {new.name!r} already.")
    _check_size(new)
    _check_overlap(
        new, others.filter(ends_at__gt=new.starts_at, starts_at__lt=new.ends_at)
    )


def is_whole_node(row: Reservation) -> bool:
    return row.node is not None and not any(getattr(row, name) for name in AMOUNTS)


def state(row: Reservation, moment: datetime.datetime) -> str:
    """One of upcoming, active, over."""
    if row.ends_at <= moment:
        return "over"
    return "upcoming" if row.starts_at > moment else "active"


def _fill(new: Reservation, asked: Mapping[str, Any]) -> list[User] | None:
    for name in ("name", "note", "starts_at", "ends_at"):
        if name in asked:
            setattr(new, name, asked[name])
    for name in AMOUNTS:
        if name in asked.get("resources", {}):
            setattr(new, name, asked["resources"][name])
    if "node" in asked:
        new.node = _node(asked["node"])
    if "lane" in asked:
        new.lane = asked["lane"]
    elif "node" in asked and new.node is not None:
        new.lane = new.node.lane
    if not new.lane:
        raise _invalid("lane", "name a lane or a node")
    if new.node is not None and new.node.lane != new.lane:
        raise _invalid("node", f"{new.node.name} is of the lane {new.node.lane}")
    return _users(asked["users"]) if "users" in asked else None


def _node(name: str | None) -> Node | None:
    if name is None:
        return None
    node = Node.objects.filter(name=name).first()
    if node is None:
        known = ", ".join(Node.objects.values_list("name", flat=True)[:20])
        text = f"there is no node {name[:100]!r}; there are {known or 'none'}"
        raise _invalid("node", text)
    return node


def _users(names: Sequence[str]) -> list[User]:
    found = {user.username: user for user in User.objects.filter(username__in=names)}
    if missing := [name for name in names if name not in found]:
        text = f"there is no user {', '.join(repr(name[:150]) for name in missing)}"
        raise _invalid("users", text)
    return list(found.values())


def _wrong_window(new: Reservation) -> tuple[str, str] | None:
    moment = clock.now()
    if new.ends_at <= new.starts_at:
        return "ends_at", "must be after starts_at"
    if new.ends_at <= moment:
        return "ends_at", "has passed already"
    if new.ends_at - new.starts_at > LONGEST:
        return "ends_at", f"at most {LONGEST.days} days after starts_at"
    if new.starts_at - moment > AHEAD:
        return "starts_at", f"at most {AHEAD.days} days ahead"
    return None


def _check_size(new: Reservation) -> None:
    nodes = [new.node] if new.node else list(Node.objects.filter(lane=new.lane))
    if not nodes or any(_amounts(new).fits(node.capacity) for node in nodes):
        return
    largest = max(nodes, key=lambda node: (node.cpus, node.memory))
    raise _invalid("resources", f"{largest.name} has {_words(largest.capacity)}")


def _check_overlap(new: Reservation, others: Any) -> None:
    """Together with the others of its node it must fit, and with all of its lane too."""
    rows = list(others.select_related("node"))
    if new.node is not None:
        same = [one for one in rows if one.node_id == new.node_id]
        _check_sum(new, same, new.node.capacity, new.node.name)
    if nodes := list(Node.objects.filter(lane=new.lane)):
        total = Resources(0, 0, 0)
        for node in nodes:
            total = _plus(total, node.capacity)
        _check_sum(new, rows, total, f"the lane {new.lane}")


def _check_sum(
    new: Reservation, others: Sequence[Reservation], size: Resources, where: str
) -> None:
    moments = {new.starts_at, *(max(one.starts_at, new.starts_at) for one in others)}
    for moment in sorted(moments):
        then = [one for one in others if one.starts_at <= moment < one.ends_at]
        total = _amounts(new)
        for one in then:
            total = _plus(total, _amounts(one))
        if then and not total.fits(size):
            names = ", ".join(repr(one.name) for one in then)
            raise Problem(
                "conflict",
                f"With {names} it would take {_words(total)} of {where} at"
                f" {moment:%Y-%m-%d %H:%M} UTC, which has {_words(size)}.",
            )


def _amounts(row: Reservation) -> Resources:
    if row.node is not None and is_whole_node(row):
        return row.node.capacity
    return Resources(row.cpus, row.gpus, row.memory)


def _plus(one: Resources, other: Resources) -> Resources:
    return Resources(
        one.cpus + other.cpus, one.gpus + other.gpus, one.memory + other.memory
    )


def _words(amount: Resources) -> str:
    return f"{amount.cpus} CPUs, {amount.gpus} GPUs and {amount.memory / GIB:.1f} GiB"


def _invalid(field: str, text: str) -> Problem:
    return Problem("invalid", f"{field}: {text}.", errors={field: [text]})
