"""What guards a version that somebody uses: holding it, and the rule of its deletion."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction
from django.db.models import Q

from registry.addresses import unknown
from registry.errors import Problem
from registry.models import Alias, ModelVersion, Task

log = logging.getLogger(__name__)

# Told the id of each version that was deleted, after the commit.
when_deleted: list[Callable[[int], object]] = []


def hold(version: ModelVersion) -> None:
    """Keep the version from being deleted until the transaction is over.

    Raises Problem `unknown_model` if it is gone.
    """
    rows = ModelVersion.objects.select_for_update(no_key=True)
    if not rows.filter(pk=version.pk).exists():
        raise unknown(f"{version} was deleted.")


def user_of(version: ModelVersion) -> Task | None:
    """A live task that uses it: a batch by its answers, a training that begins with it."""
    address = str(version)
    uses = Q(params__version_id=version.pk) | Q(params__model=address)
    uses |= Q(params__params__version_id=version.pk)
    uses |= Q(params__params__model=address)
    return Task.objects.live().filter(uses).order_by("pk").first()


def delete(version: ModelVersion, *, by: str = "") -> None:
    """Delete it, with an entry in the history; its files go with a later cleaning.

    Raises Problem `conflict` while an alias names it or a live task uses it.
    """
    with transaction.atomic():
        model = version.model
        model.lock()
        rows = ModelVersion.objects.select_for_update()
        if not rows.filter(pk=version.pk).exists():
            raise unknown(f"{version} was deleted already.")
        named = Q(version=version) | Q(second__version=version)
        aliases = Alias.objects.filter(named).order_by("name")
        if names := list(aliases.values_list("name", flat=True)):
            text = f"The aliases that name {version} are {', '.join(names[:20])}; move or delete them first."
            raise Problem("conflict", text)
        if task := user_of(version):
            text = f"Task {task.pk} ({task.kind}) uses {version} and is {task.state}."
            raise Problem("conflict", text)
        model.note("delete", before=version.number, by=by)
        number = version.pk
        version.delete()
        transaction.on_commit(lambda: _tell_of_deletion(number))


def _tell_of_deletion(version: int) -> None:
    for tell in when_deleted:
        try:
            tell(version)
        except Exception:
            log.exception("Not everybody was told that version %s was deleted", version)
