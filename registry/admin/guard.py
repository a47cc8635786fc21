"""Pages that no address can break: Django's own fail on NUL and on numbers too large."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.http import HttpRequest, HttpResponse


class Guarded(admin.ModelAdmin):  # type: ignore[type-arg]
    """Refuses what no row could have, before a database sees it."""

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Lists are narrowed by their own filters alone."""
        allowed = set()
        for one in self.get_list_filter(request):
            if not isinstance(one, str):
                allowed.add(getattr(one, "parameter_name", ""))
            elif self.opts.get_field(one).is_relation:
                allowed.add(f"{one}__id__exact")
            else:
                allowed.add(f"{one}__exact")
        return lookup in allowed

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        if not self._is_key(object_id):
            return None
        return super().get_object(request, object_id, from_field)

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        asked = [value for _, values in request.GET.lists() for value in values]
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if any("\x00" in value for value in asked):
            raise SuspiciousOperation("A NUL in the address.")
        if not all(self._is_key(value) for value in chosen):
            raise SuspiciousOperation("A chosen row has no valid key.")
        return super().changelist_view(request, extra_context)

    def _is_key(self, value: str) -> bool:
        key: Any = self.opts.pk
        key = getattr(key, "target_field", key)  # a row may be known by another's key
        try:
            key.run_validators(key.to_python(value))
        except (ValidationError, ValueError):
            return False
        return "\x00" not in value
