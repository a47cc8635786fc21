from __future__ import annotations

import datetime
from typing import Any

from rest_framework import serializers

from registry import clock
from registry.models import Attempt, Condition, Task, TaskEvent
from registry.serializers.quick import SharedFields, Shown
from registry.waits import reasons

ROUTES = (
    "logs",
    "events",
    "metrics",
    "attempts",
    "files",
    "cancel",
    "pause",
    "resume",
    "retry",
)


JSON_TYPES: tuple[tuple[type[Any], tuple[type, ...], str], ...] = (
    (serializers.CharField, (str,), "must be a string"),
    (serializers.ChoiceField, (str,), "must be a string"),
    (serializers.IntegerField, (int,), "must be a whole number"),
    (serializers.FloatField, (int, float), "must be a number"),
    (serializers.BooleanField, (bool,), "must be true or false"),
)


class StrictSerializer(SharedFields):
    """Refuses fields that it does not know, and values of another JSON type."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            wrong = {
                name: found
                for name, field in self.fields.items()
                if name in data and (found := wrong_type(field, data[name]))
            }
            if wrong:
                raise serializers.ValidationError(wrong)
        value = super().to_internal_value(data)
        known = {name for name, field in self.fields.items() if not field.read_only}
        if unknown := [str(name)[:100] for name in data if name not in known]:
            text = f"unknown; there are {', '.join(sorted(known))}"
            raise serializers.ValidationError({name: [text] for name in unknown})
        return value


def wrong_type(field: Any, value: Any) -> Any:
    """What is wrong with a value's JSON type, in sentences; nothing if it fits."""
    if value is None:
        return None  # the field itself knows whether it may be null
    if isinstance(field, serializers.ListField):
        if not isinstance(value, list):
            return ["must be a list"]
        found = [wrong_type(field.child, item) or {} for item in value]
        return found if any(found) else None
    for kind, types, text in JSON_TYPES:
        if isinstance(field, kind):
            fits = isinstance(value, types)
            if isinstance(value, bool):
                fits = bool in types
            return None if fits else [text]
    return None


class ResourcesSerializer(StrictSerializer):
    cpus = serializers.IntegerField(min_value=1, max_value=4096, required=False)
    gpus = serializers.IntegerField(min_value=0, max_value=64, required=False)
    memory = serializers.IntegerField(
        min_value=0, max_value=2**50, required=False, help_text="bytes"
    )
    gpu_memory = serializers.IntegerField(
        min_value=0,
        max_value=2**50,
        required=False,
        help_text="bytes that each GPU must have at least",
    )


class TaskSerializer(Shown, serializers.ModelSerializer[Task]):
    """A task as every route shows it; times in UTC, durations in seconds."""

    id = serializers.CharField(source="pk")
    hint = serializers.CharField()
    resources = serializers.SerializerMethodField()
    node = serializers.CharField(source="node.name", allow_null=True, default=None)
    owner = serializers.CharField(source="owner.username")
    waiting_for = serializers.SerializerMethodField()
    elapsed = serializers.SerializerMethodField()
    depends_on = serializers.SerializerMethodField()
    params = serializers.SerializerMethodField()
    array = serializers.SerializerMethodField()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id", "kind", "name", "description", "state", "reason", "message", "hint",
            "attempt", "retries", "max_retries", "priority", "lane", "resources", "params",
            "node", "owner", "progress", "metrics", "waiting_for", "estimated_start",
            "time_limit", "soft_time_limit", "hang_after", "array", "created_at", "assigned_at", "started_at", "finished_at",
            "elapsed", "cancel_requested_at", "pause_requested_at", "depends_on", "tags",
            "result", "links",
        ]  # fmt: skip

    def get_resources(self, task: Task) -> dict[str, int]:
        return task.resources.as_dict()

    def get_waiting_for(self, task: Task) -> list[str]:
        is_alone = self.parent is None  # a page of rows asks nothing for each
        return reasons(task, self._now(), look=is_alone)

    def get_elapsed(self, task: Task) -> float | None:
        if task.started_at is None:
            return None
        return ((task.finished_at or self._now()) - task.started_at).total_seconds()

    def get_depends_on(self, task: Task) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in Condition.values}
        for one in task.dependencies.all():
            found[one.condition].append(str(one.on_number))
        return found

    def get_params(self, task: Task) -> dict[str, Any]:
        return task.asked

    def get_array(self, task: Task) -> dict[str, Any] | None:
        """Of an element its head and index; of a head its size and limit."""
        if task.array_id is not None:
            return {"id": str(task.array_id), "index": task.array_index}
        if task.is_head:
            return {"size": task.array_size, "limit": task.array_limit}
        return None

    def get_links(self, task: Task) -> dict[str, str]:
        home = f"/api/v1/tasks/{task.pk}"
        links = {"self": home} | {name: f"{home}/{name}" for name in ROUTES}
        if task.is_head:
            links["elements"] = f"/api/v1/tasks?array={task.pk}"
        return links

    def _now(self) -> datetime.datetime:
        context: Any = self.context
        if "now" not in context:  # one look at the clock for a whole page
            context["now"] = clock.now()
        moment: datetime.datetime = context["now"]
        return moment


LONGEST = 366 * 24 * 3600  # seconds


def limit() -> Any:
    """A limit in seconds, of which null is none."""
    return serializers.IntegerField(
        min_value=1,
        max_value=LONGEST,
        required=False,
        allow_null=True,
        help_text="seconds, null for none; not while it runs",
    )


class TaskChange(StrictSerializer):
    name = serializers.CharField(max_length=200, allow_blank=True, required=False)
    description = serializers.CharField(
        max_length=10_000, allow_blank=True, required=False
    )
    priority = serializers.IntegerField(min_value=-1000, max_value=1000, required=False)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=50, required=False
    )
    time_limit = limit()
    soft_time_limit = limit()
    hang_after = limit()


class RetryRequest(StrictSerializer):
    vars()["from"] = serializers.ChoiceField(
        choices=["checkpoint", "start"], default="checkpoint"
    )


class AttemptSerializer(Shown, serializers.ModelSerializer[Attempt]):
    node = serializers.CharField(source="node.name")

    class Meta:
        model = Attempt
        fields = [
            "number", "node", "incarnation", "pid", "gpus", "assigned_at", "started_at",
            "finished_at", "outcome", "reason", "message", "exit_code", "signal",
            "peak_memory", "log_start", "log_end",
        ]  # fmt: skip


class EventSerializer(Shown, serializers.ModelSerializer[TaskEvent]):
    id = serializers.CharField(source="pk")

    class Meta:
        model = TaskEvent
        fields = ["id", "at", "verb", "state", "attempt", "reason", "message"]
