"""What all admin pages share: read-only but for named fields, and safe with any address."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.html import format_html

NEWEST = 10_000  # rows that a list without a full count reaches


class Newest(Paginator):  # type: ignore[type-arg]
    """Counts no further than the newest rows, for tables that grow without end."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:NEWEST].count())


class Page(admin.ModelAdmin):  # type: ignore[type-arg]
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
        return [
            (title, {**options, "fields": [self._shown(n) for n in options["fields"]]})
            for title, options in self.fieldsets or [(None, {"fields": every})]
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

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Lists are narrowed by their own filters alone."""
        filters: Any = self.get_list_filter(request)
        return lookup in {one.parameter_name for one in filters}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        if not self._is_key(object_id):
            return None
        return super().get_object(request, object_id, from_field)

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponseBase:
        asked = [value for _, values in request.GET.lists() for value in values]
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if any("\x00" in value for value in asked):
            raise SuspiciousOperation("A NUL in the address.")
        if not all(self._is_key(value) for value in chosen):
            raise SuspiciousOperation("A chosen row has no valid key.")
        response: HttpResponseBase = super().changelist_view(request, extra_context)
        return response

    def _is_key(self, value: str) -> bool:
        """Whether a row could have this key; databases fail on NUL and huge numbers."""
        key = self.opts.pk
        assert key is not None
        try:
            key.run_validators(key.to_python(value))
        except (ValidationError, ValueError):
            return False
        return "\x00" not in value

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
