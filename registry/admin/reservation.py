from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from registry import dispatcher, lanes, reservations
from registry.admin.page import Page
from registry.errors import Problem
from registry.models import Reservation

WINDOW = ("starts_at", "ends_at")
LARGEST = {"cpus": 4096, "gpus": 64, "memory": 2**50}


class ReservationForm(forms.ModelForm):  # type: ignore[type-arg]
    """By the rules of the REST route."""

    lane = forms.ChoiceField(
        choices=[("", "the node's"), *((name, name) for name in lanes.NAMES)],
        required=False,
    )

    class Meta:
        model = Reservation
        fields = [
            "name", "lane", "node", "cpus", "gpus", "memory", "starts_at", "ends_at",
            "users", "note",
        ]  # fmt: skip

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = super().clean() or self.cleaned_data
        node = asked.get("node")
        if node is not None and not asked.get("lane"):
            asked["lane"] = node.lane
        if not asked.get("lane"):
            self.add_error("lane", "Name a lane or a node.")
        elif node is not None and node.lane != asked["lane"]:
            self.add_error("node", f"{node.name} is of the lane {node.lane}.")
        for name, most in LARGEST.items():
            if (asked.get(name) or 0) > most:
                self.add_error(name, f"At most {most}.")
        return asked

    def _get_validation_exclusions(self) -> set[str]:
        """The window is checked below, in plainer words than the database's."""
        return {*super()._get_validation_exclusions(), *WINDOW}  # type: ignore[misc]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            reservations.check(self.instance)
        except Problem as problem:
            (name, *_) = [*problem.errors, None]
            field = name if name in self.fields else None
            self.add_error(field, problem.detail)


@admin.register(Reservation)
class ReservationPage(Page):
    editable = tuple(ReservationForm.Meta.fields)
    form = ReservationForm
    list_display = (
        "name", "lane", "node", "cpus", "gpus", "memory", "starts_at", "ends_at", "note",
    )  # fmt: skip
    list_select_related = ("node",)
    filter_horizontal = ("users",)
    search_fields = ("name",)
    fieldsets = ((None, {"fields": editable}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        obj.save()
        transaction.on_commit(dispatcher.nudge, robust=True)
