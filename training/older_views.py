"""The older scheduler's routes, `/jobs/submit`, `/jobs/query/ID` and `/jobs/cancel/ID`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from registry import clock, dispatcher
from registry.cancellation import cancel
from registry.idempotency import once
from registry.models import Node, Stale, Task
from registry.states import PLACED, State
from training.older_serializers import (
    CancelledShape,
    JobShape,
    OlderSubmission,
    SubmittedShape,
)
from training.older_words import STATES
from training.script_files import output_names, tail, work_path
from training.script_submission import submit


class Jobs(GenericAPIView[Any]):
    """What the three routes share."""

    queryset: Any = Task.objects.filter(kind="script")
    scopes = {"POST": "script"}
    texts = ("script",)
    pagination_class = None
    filter_backends: Any = []

    def get_queryset(self) -> Any:
        rows: Any = super().get_queryset().select_related("node", "owner", "array")
        return rows.visible_to(self.request.user)


class SubmitJob(Jobs):
    serializer_class = OlderSubmission

    @extend_schema(request=OlderSubmission, responses={201: SubmittedShape})
    def post(self, request: Request) -> Response:
        def accept() -> Response:
            asked = OlderSubmission(data=request.data)
            asked.is_valid(raise_exception=True)
            task = _submit(request.user, **asked.validated_data)
            transaction.on_commit(dispatcher.nudge, robust=True)
            response = Response({"job_id": str(task.pk)}, 201)
            response["Location"] = f"/jobs/query/{task.pk}"
            return response

        return once(request, accept)


class QueryJob(Jobs):
    serializer_class = JobShape

    @extend_schema(responses=JobShape)
    def get(self, request: Request, pk: str) -> Response:
        return Response(shown(self.get_object()))


class CancelJob(Jobs):
    serializer_class = CancelledShape

    @extend_schema(request=None, responses=CancelledShape)
    def post(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        with suppress(Stale):  # it is over, and the answer says how
            cancel(task)
        transaction.on_commit(dispatcher.nudge, robust=True)
        task.refresh_from_db()
        return Response({"job_id": str(task.pk), "state": STATES[State(task.state)]})


def shown(task: Task) -> dict[str, Any]:
    """The job as the older scheduler showed it."""
    stdout, stderr = output_names(task)
    return {
        "job_id": str(task.pk),
        "state": STATES[State(task.state)],
        "error_msg": task.message if task.state != State.COMPLETED else "",
        "time": _times(task),
        "job_log": {"stdout": tail(task, stdout), "stderr": tail(task, stderr)},
        "detail": {
            "job_name": task.name,
            "user": task.owner.username,
            "partition": task.asked.get("partition") or task.lane,
            "allocated_cpus": task.cpus if task.started_at else 0,
            "allocated_nodes": 1 if task.node_id and task.started_at else 0,
            "node_list": [task.node.name] if task.node and task.started_at else [],
            "exit_code": _exit_code(task),
            "work_dir": str(work_path(task)),
            "account": task.asked.get("account", ""),
        },
    }


def _times(task: Task) -> dict[str, Any]:
    end = task.finished_at or clock.now()
    took = end - task.started_at if task.started_at else datetime.timedelta()
    times = {
        "submit": task.created_at,
        "start": task.started_at,
        "end": task.finished_at,
        "eligible": None if task.held else task.not_before or task.created_at,
    }
    shape = JobShape().fields["time"]
    fields: Any = shape.fields  # type: ignore[attr-defined]
    return {
        **{
            name: fields[name].to_representation(moment) if moment else None
            for name, moment in times.items()
        },
        "elapsed": int(took.total_seconds()),
        "limit": task.time_limit,
    }


def _exit_code(task: Task) -> int | None:
    """That of the last attempt once it is over, as a shell says it."""
    if task.state in PLACED:
        return None
    attempt = task.attempts.order_by("-number").first()
    if attempt is None or attempt.finished_at is None:
        return None
    if attempt.signal is not None:
        return 128 + int(attempt.signal)
    code: int | None = attempt.exit_code
    return code


def _submit(user: Any, job: Mapping[str, Any], script: str) -> Task:
    gpus = job["gpus"] or 0
    partition = job["partition"] or ""
    lane = "gpu" if gpus or "gpu" in partition.lower() else "cpu"
    needs = {
        "cpus": job["ntasks_per_node"] * job["cpus_per_task"],
        "gpus": gpus or (1 if lane == "gpu" else 0),
        "memory": job["memory_per_node"] or 0,
    }
    if job["exclusive"]:
        needs["cpus"] = _whole_node(lane, needs)
    asked = {
        "script": script,
        "name": job["name"],
        "description": "",
        "tags": [],
        "env": job["environment"],
        "lane": lane,
        "resources": needs,
        "priority": 0,
        "max_retries": 0,
        "files": {},
    }
    if job["time_limit"] is not None:
        asked["time_limit"] = job["time_limit"]
    words = {
        "stdout": job["standard_output"] or "",
        "stderr": job["standard_error"] or "",
        "partition": partition,
        "account": job["account"] or "",
        "working_directory": job["current_working_directory"] or "",
        "exclusive": job["exclusive"],
    }
    return submit(user, asked, **words)


def _whole_node(lane: str, needs: Mapping[str, int]) -> int:
    """The CPUs of the smallest node that could hold it, so that nobody else fits beside it."""
    sizes = [node.capacity for node in Node.objects.up(clock.now()).filter(lane=lane)]
    fitting = [
        size.cpus
        for size in sizes
        if all(getattr(size, name) >= amount for name, amount in needs.items())
    ]
    return min(fitting, default=needs["cpus"])
