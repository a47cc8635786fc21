from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import DateTimeField, Q, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from registry import clock, dispatcher, logs, orders, waits
from registry.admin import wishes
from registry.admin.filters import Elements, OfArray, OnNode, among, is_number
from registry.admin.page import Page
from registry.admin.task_form import TaskForm
from registry.errors import Problem
from registry.kinds import KINDS, LANES
from registry.models import Dependency, Task
from registry.states import REASONS, State

LATEST = 200  # attempts and events on a task's page
TAIL = 32 * 1024  # bytes of the log
ATTEMPT = (
    "number", "node", "assigned_at", "started_at", "finished_at", "outcome", "reason",
    "exit_code", "signal", "peak_memory", "message",
)  # fmt: skip
EVENT = ("at", "verb", "state", "attempt", "reason", "message")


@admin.register(Task)
class TaskPage(Page):
    """A task's state is moved by its verbs alone, which the actions call."""

    actions = (wishes.cancel, wishes.retry, wishes.pause, wishes.resume)
    editable = tuple(TaskForm.Meta.fields)
    form = TaskForm
    list_display = (
        "id", "kind", "name", "state", "why", "owner", "lane", "node", "fraction",
        "created_at", "elapsed",
    )  # fmt: skip
    list_display_links = ("id", "name")
    list_filter = (
        among("state", State.values),
        among("kind", KINDS),
        among("lane", LANES),
        among("reason", REASONS),
        OnNode,
        OfArray,
        Elements,
    )
    list_select_related = ("owner", "node", "array")
    search_fields = ("name",)
    search_help_text = "A part of the name, or the id."
    sortable_by = ("id",)
    fieldsets = (
        (None, {"fields": editable}),
        (
            "State",
            {
                "fields": (
                    "id", "kind", "owner", "state", "reason", "message", "hint",
                    "waits", "estimated_start", "progress", "metrics", "result",
                )
            },
        ),
        (
            "Place",
            {"fields": ("lane", "node", "attempt", "cpus", "gpus", "memory", "gpu_memory")},
        ),
        (
            "Limits and line",
            {
                "fields": (
                    "time_limit", "soft_time_limit", "hang_after", "template", "expected",
                    "depends_on", "needed_by", "elements",
                )
            },
        ),
        ("Parameters", {"fields": ("params",)}),
        (
            "Tries and wishes",
            {
                "fields": (
                    "max_retries", "retries", "releases", "resume_from", "not_before",
                    "cancel_requested_at", "pause_requested_at", "release_requested_at",
                )
            },
        ),
        (
            "Times",
            {
                "fields": (
                    "created_at", "assigned_at", "sent_at", "started_at", "beat_at",
                    "finished_at", "elapsed",
                )
            },
        ),
        ("Log", {"fields": ("log",)}),
        ("History", {"fields": ("attempts", "events")}),
    )  # fmt: skip

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_queryset(self, request: HttpRequest) -> Any:
        seen = Value(clock.now(), output_field=DateTimeField())
        return super().get_queryset(request).annotate(seen_at=seen)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        wanted = Q(name__icontains=term)
        if is_number(term):
            wanted |= Q(pk=int(term))
        return (queryset.filter(wanted) if term else queryset), False

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        orders.change(obj, changes)
        if "priority" in changes:
            transaction.on_commit(dispatcher.nudge, robust=True)

    # Deleting

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What would go with its history, and the tasks that are live."""
        tasks = list(objs)
        live = [f"{task}: cancel it first" for task in tasks if not task.is_final]
        return [str(task) for task in tasks], {"tasks": len(tasks)}, set(), live

    def delete_model(self, request: HttpRequest, obj: Task) -> None:
        try:
            orders.purge(obj)
        except Problem as problem:
            if problem.code != "not_found":
                raise PermissionDenied(problem.detail) from None

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            for task in queryset:
                self.delete_model(request, task)

    # Columns and fields

    @admin.display(description="reason")
    def why(self, task: Any) -> str:
        told = waits.reasons(task, task.seen_at)
        when = f" ({start})" if (start := waits.start(task)) else ""
        return f"{told[0]}{when}" if told else task.reason or "-"

    @admin.display(description="waiting for")
    def waits(self, task: Any) -> str:
        told = waits.reasons(task, task.seen_at, look=True)
        return format_html_join("", "<p>{}</p>", [(one,) for one in told]) or "-"

    @admin.display
    def depends_on(self, task: Task) -> str:
        rows = task.dependencies.order_by("pk")[:LATEST]
        return _links(
            [(one.on_number, f" {one.condition} {_met(one)}") for one in rows]
        )

    @admin.display
    def needed_by(self, task: Task) -> str:
        rows = task.dependents.order_by("pk")[:LATEST]
        return _links([(one.task_id, f" {one.condition}") for one in rows])

    @admin.display(description="array")
    def elements(self, task: Task) -> str:
        if task.array_id is not None:
            return _links([(task.array_id, f"; its element {task.array_index}")])
        if not task.is_head:
            return "-"
        limit = f", {task.array_limit} at a time" if task.array_limit else ""
        home = reverse("admin:registry_task_changelist")
        text = f"{task.array_size} elements{limit}"
        return format_html('<a href="{}?array={}">{}</a>', home, task.pk, text)

    @admin.display(description="progress")
    def fraction(self, task: Task) -> str:
        done = task.progress.get("fraction")
        return f"{done:.0%}" if isinstance(done, int | float) else "-"

    @admin.display
    def elapsed(self, task: Any) -> str:
        if task.started_at is None:
            return "-"
        spent = (task.finished_at or task.seen_at) - task.started_at
        return str(datetime.timedelta(seconds=round(spent.total_seconds())))

    @admin.display
    def hint(self, task: Task) -> str:
        return task.hint or "-"

    @admin.display
    def log(self, task: Task) -> str:
        piece = logs.read(task, {"tail": str(TAIL)})
        return format_html("<pre>{}</pre>", piece["text"] or "Nothing yet.")

    @admin.display
    def attempts(self, task: Task) -> str:
        rows = task.attempts.select_related("node").order_by("-number")[:LATEST]
        return self._table(ATTEMPT, rows, "admin:registry_attempt_changelist", task)

    @admin.display
    def events(self, task: Task) -> str:
        rows = task.events.order_by("-pk")[:LATEST]
        return self._table(EVENT, rows, "admin:registry_taskevent_changelist", task)

    def _table(
        self, names: tuple[str, ...], rows: Iterable[Any], every: str, task: Task
    ) -> str:
        """The latest rows, the newest first, and the way to all of them."""
        heads = [(name.replace("_", " ").removesuffix(" at"),) for name in names]
        cells = [[(_cell(getattr(row, name)),) for name in names] for row in rows]
        lines = [(format_html_join("", "<td>{}</td>", line),) for line in cells]
        return format_html(
            "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>"
            '<p><a href="{}?task={}">All</a></p>',
            format_html_join("", "<th>{}</th>", heads),
            format_html_join("", "<tr>{}</tr>", lines),
            reverse(every),
            task.pk,
        )


def _links(rows: Iterable[tuple[int, str]]) -> str:
    """The tasks of these ids, one a line, each with what is said of it."""
    lines = [
        (reverse("admin:registry_task_change", args=(pk,)), pk, text)
        for pk, text in rows
    ]
    return format_html_join("", '<p><a href="{}">task {}</a>{}</p>', lines) or "-"


def _met(one: Dependency) -> str:
    return {None: "(open)", True: "(met)", False: "(never met)"}[one.met]


def _cell(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "-" if value is None or value == "" else str(value)
