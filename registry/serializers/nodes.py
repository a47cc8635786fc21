from __future__ import annotations

import datetime

from rest_framework import serializers

from registry import draining
from registry.models import Incident, Node, Task
from registry.serializers.tasks import StrictSerializer


class DrainRequest(StrictSerializer):
    mode = serializers.ChoiceField(
        choices=draining.MODES,
        default=draining.FINISH,
        help_text="finish: what runs there ends there; move: it goes on elsewhere",
    )
    note = serializers.CharField(max_length=200, allow_blank=True, default="")


class NodeSerializer(serializers.ModelSerializer[Node]):
    """A node with what it offers and what is used of it."""

    state = serializers.SerializerMethodField()
    capacity = serializers.SerializerMethodField()
    used = serializers.SerializerMethodField()
    free = serializers.SerializerMethodField()
    running = serializers.SerializerMethodField()
    short = serializers.SerializerMethodField()

    class Meta:
        model = Node
        fields = [
            "name", "lane", "state", "draining", "drain_note", "capacity", "used", "free",
            "gpus", "short", "running", "host", "incarnation", "registered_at", "beat_at",
            "stopped_at",
        ]  # fmt: skip

    def get_state(self, node: Node) -> str:
        moment: datetime.datetime = self.context["now"]
        return node.condition(moment, is_empty=not self._placed(node))

    def get_capacity(self, node: Node) -> dict[str, int]:
        return node.capacity.as_dict()

    def get_used(self, node: Node) -> dict[str, int]:
        total = {"cpus": 0, "gpus": 0, "memory": 0}
        for task in self._placed(node):
            for name in total:
                total[name] += getattr(task, name)
        return total

    def get_free(self, node: Node) -> dict[str, int]:
        """What is not used by tasks; a GPU that others use is not free."""
        offer, used = node.capacity.as_dict(), self.get_used(node)
        free = {name: max(offer[name] - count, 0) for name, count in used.items()}
        taken = sum(bool(gpu.get("busy")) for gpu in node.gpus)
        return free | {"gpus": max(free["gpus"] - taken, 0)}

    def get_running(self, node: Node) -> list[str]:
        return [str(task.pk) for task in self._placed(node)]

    def get_short(self, node: Node) -> str:
        """What its host has too little of, so that nothing is placed there."""
        return f"{node.name} {node.short}." if node.short else ""

    def _placed(self, node: Node) -> list[Task]:
        return [task for task in self.context["placed"] if task.node_id == node.pk]


class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """A rescue, or orphan processes that were ended."""

    id = serializers.CharField(source="pk")
    summary = serializers.DictField()

    class Meta:
        model = Incident
        fields = ["id", "at", "kind", "node", "message", "summary"]
