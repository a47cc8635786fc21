"""What a user may hold at a time, what they hold, and what they had lately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from registry import clock
from registry.errors import Problem
from registry.locks import lock_until_commit
from registry.models import Task, Use, UserLimit

DEFAULT = "default"  # the name of the limit of everybody who has none
WHAT = ("tasks", "cpus", "gpus")

Amounts = dict[str, int | None]


def user_named(name: str) -> User | None:
    """The user, or None for `default`. Raises Problem `not_found`."""
    if name == DEFAULT:
        return None
    user = User.objects.filter(username=name).first()
    if user is None:
        raise Problem("not_found", f"There is no user {name[:150]!r}.")
    return user


def own(user: User | None) -> UserLimit | None:
    """The row of the user alone, or of everybody else."""
    return UserLimit.objects.filter(user=user).first()


def of(user: User) -> Amounts:
    """The limit that holds for the user; None is no limit."""
    row = own(user) or own(None) or UserLimit()
    return {what: getattr(row, what) for what in WHAT}


def put(user: User | None, amounts: Mapping[str, int | None]) -> UserLimit:
    """Set the limit whole: what is not named is not limited."""
    whole = {what: amounts.get(what) for what in WHAT}
    with transaction.atomic():
        lock_until_commit("limits")
        row, _ = UserLimit.objects.update_or_create(user=user, defaults=whole)
    return row


def remove(user: User | None) -> None:
    UserLimit.objects.filter(user=user).delete()


def in_use(user: User) -> dict[str, int]:
    """What the user's placed tasks hold."""
    held: dict[str, int] = (
        Task.objects.placed()
        .filter(owner=user, array_size=None)
        .aggregate(
            tasks=Count("pk", filter=Q(array_size=None)),
            cpus=Coalesce(Sum("cpus"), 0),
            gpus=Coalesce(Sum("gpus"), 0),
        )
    )
    return held


def told(user: User) -> dict[str, Any]:
    """Limit, use and what is left, for the user to see."""
    limit, held = of(user), in_use(user)
    use = Use.objects.filter(owner=user).first()
    left = {
        what: None if most is None else max(most - held[what], 0)
        for what, most in limit.items()
    }
    return {
        "user": user.get_username(),
        "limit": limit,
        "in_use": held,
        "you_may_use": left,
        "use": round(use.at(clock.now()), 3) if use else 0.0,
    }
