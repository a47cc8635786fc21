"""Lanes: paused with a note, and resumed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest

from registry import dispatcher, lanes
from registry.admin.page import Page
from registry.models import Lane


class LaneForm(forms.ModelForm):  # type: ignore[type-arg]
    """To add a lane here is to pause it."""

    name = forms.ChoiceField(choices=[(name, name) for name in lanes.NAMES])

    class Meta:
        model = Lane
        fields = ["name", "note"]


@admin.register(Lane)
class LanePage(Page):
    """A lane stands here once it was paused; the others run."""

    actions = ("pause", "resume")
    editable = ("note",)
    form = LaneForm
    list_display = ("name", "paused_at", "note")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": LaneForm.Meta.fields})]
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            lanes.pause(obj.name, obj.note)
        transaction.on_commit(dispatcher.nudge, robust=True)

    @admin.action(description="Pause selected lanes", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: Any) -> None:
        self._each(request, queryset, "Paused")

    @admin.action(description="Resume selected lanes", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: Any) -> None:
        self._each(request, queryset, "Resumed")

    def _each(self, request: HttpRequest, queryset: Any, said: str) -> None:
        rows = list(queryset)
        for row in rows:
            if said == "Paused":
                lanes.pause(row.name, row.note)
            else:
                lanes.resume(row.name)
            self.log_change(request, row, f"{said}.")
        transaction.on_commit(dispatcher.nudge, robust=True)
        messages.success(request, f"{said} {', '.join(row.name for row in rows)}.")
