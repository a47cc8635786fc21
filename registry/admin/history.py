"""Attempts, events, incidents and dependencies: what happened; nobody rewrites it."""

from __future__ import annotations

from django.contrib import admin

from registry.admin.filters import OfTask, OnNode, among
from registry.admin.page import Newest, Page
from registry.models import Attempt, Condition, Dependency, Incident, TaskEvent
from registry.states import REASONS, State


@admin.register(Attempt)
class AttemptPage(Page):
    list_display = (
        "celery_id", "node", "outcome", "reason", "pid", "exit_code", "signal",
        "peak_memory", "assigned_at", "started_at", "finished_at",
    )  # fmt: skip
    list_filter = (OfTask, OnNode, among("reason", REASONS))
    list_select_related = ("node",)
    ordering = ("-pk",)
    paginator = Newest
    sortable_by = ()


@admin.register(TaskEvent)
class TaskEventPage(Page):
    list_display = ("at", "task_id", "attempt", "verb", "state", "reason", "message")
    list_filter = (OfTask, among("state", State.values), among("reason", REASONS))
    ordering = ("-pk",)
    paginator = Newest
    sortable_by = ()


@admin.register(Incident)
class IncidentPage(Page):
    list_display = ("at", "kind", "node", "message")
    list_filter = (among("kind", ("rescue", "orphan")),)
    search_fields = ("node",)
    ordering = ("-pk",)
    paginator = Newest
    sortable_by = ()


@admin.register(Dependency)
class DependencyPage(Page):
    list_display = ("id", "task_id", "condition", "on_number", "met")
    list_filter = (OfTask, among("condition", Condition.values))
    ordering = ("-pk",)
    paginator = Newest
    sortable_by = ()
