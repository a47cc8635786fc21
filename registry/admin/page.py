"""What all admin pages share: a row is read-only but for named fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html

from registry.admin.guard import Guarded

NEWEST = 10_000  # rows that a list without a full count reaches


class Newest(Paginator):  # type: ignore[type-arg]
    """Counts no further than the newest rows, for tables that grow without end."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:NEWEST].count())


class Page(Guarded):
    """The admin of one table: nothing is added, deleted or changed but `editable`."""

    editable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    actions_on_bottom = True
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False

    class Media:
        css = {"all": ["registry/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        stored = [field.name for field in self.opts.concrete_fields]
        every = [name for name in stored if name not in self.hidden]
        groups: Any = self.fieldsets
        if groups is None:
            groups = [(None, {"fields": every})]
        return [
            (title, {**options, "fields": [self._shown(n) for n in options["fields"]]})
            for title, options in groups
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names: Sequence[Any] = flatten_fieldsets(self.get_fieldsets(request, obj))
        return [name for name in names if name not in self.editable]

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        """Write the changed fields alone; a beat or a verb may have moved the others."""
        if changes := {name: form.cleaned_data[name] for name in form.changed_data}:
            self.model._default_manager.filter(pk=obj.pk).update(**changes)

    def _shown(self, name: str) -> Any:
        stored = {field.name: field for field in self.opts.concrete_fields}
        is_json = isinstance(stored.get(name), models.JSONField)
        return pretty(name) if is_json and name not in self.editable else name


@cache
def pretty(name: str) -> Callable[[Any], str]:
    """A column that shows the JSON field of that name over several lines."""

    @admin.display(description=name.replace("_", " "))
    def shown(row: Any) -> str:
        text = json.dumps(getattr(row, name), indent=2, ensure_ascii=False)
        return format_html("<pre>{}</pre>", text)

    shown.__name__ = name
    return shown
