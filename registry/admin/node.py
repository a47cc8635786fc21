from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import DateTimeField, Exists, OuterRef, Value
from django.http import HttpRequest

from registry import clock, dispatcher
from registry.admin.filters import among
from registry.admin.page import Page
from registry.kinds import LANES
from registry.models import Node, Pulse, Task


@admin.register(Node)
class NodePage(Page):
    """A node is its worker's to tell; only whether it drains is ours."""

    editable = ("draining",)
    list_display = (
        "name", "condition", "lane", "cpus", "gpu_count", "memory", "host", "draining",
        "beat_at",
    )  # fmt: skip
    list_filter = (among("lane", LANES),)
    search_fields = ("name", "host")
    fieldsets = (
        (None, {"fields": ("name", "condition", "draining")}),
        ("Offer", {"fields": ("lane", "cpus", "memory", "gpus", "status")}),
        (
            "Process",
            {
                "fields": (
                    "host", "pid", "incarnation", "registered_at", "beat_at",
                    "stopped_at",
                )
            },
        ),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> Any:
        seen = Value(clock.now(), output_field=DateTimeField())
        placed = Exists(Task.objects.placed().filter(node=OuterRef("pk")))
        rows = super().get_queryset(request)
        return rows.annotate(seen_at=seen, is_empty=~placed)

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(dispatcher.nudge, robust=True)

    @admin.display
    def condition(self, node: Any) -> str:
        return str(node.condition(node.seen_at, is_empty=node.is_empty))

    @admin.display(description="GPUs")
    def gpu_count(self, node: Node) -> int:
        return len(node.gpus)


@admin.register(Pulse)
class PulsePage(Page):
    list_display = ("name", "at")
