from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference import batches, commands, gateway, given, routes, traffic
from inference.fallback import answer_of, first_served, listed
from inference.given import UPLOADS
from inference.routes import Found
from inference.serializers import (
    MOST_ONLINE,
    BatchRequest,
    BatchResponse,
    ModelRequest,
    PredictRequest,
    PredictResponse,
    PreloadRequest,
    StatusResponse,
    TellResponse,
)
from inference.shards import write_items
from inference.signature import newest_that_fits
from registry import clock, dispatcher
from registry.addresses import resolve
from registry.idempotency import once
from registry.models import Node, Task
from registry.serializers.tasks import TaskSerializer
from registry.states import State

COUNTS = ("bytes", "hits", "misses", "loads", "failures", "evictions", "capacity")
NOTHING_YET: dict[str, Any] = {
    **dict.fromkeys(COUNTS, 0),
    "budget": None,
    "models": [],
    "gone": [],
}


class Predict(APIView):
    """Answers to a few items, at once."""

    scopes = {"POST": "predict"}

    @extend_schema(
        operation_id="inference_predict",
        request=PredictRequest,
        responses=PredictResponse,
    )
    def post(self, request: Request) -> Response:
        began = time.monotonic()
        asked = PredictRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        model, inputs = (
            asked.validated_data.get("model"),
            asked.validated_data["inputs"],
        )
        key, timeout = (
            asked.validated_data.get("key"),
            float(settings.ENVIRONMENT.predict_timeout),
        )

        def serve(address: str, seconds: float) -> tuple[Found, list[Any]]:
            return gateway.ask_what_is_there(
                lambda: routes.find_for(address, key), inputs, timeout=seconds
            )

        fell_back: list[dict[str, str]] = []
        if model is None:
            found, outputs = gateway.ask_what_is_there(
                lambda: routes.of_version(newest_that_fits(inputs)),
                inputs,
                timeout=timeout,
            )
        else:
            (found, outputs), fell_back = first_served(
                listed(model), serve, timeout=timeout
            )
        return Response(
            {
                "model": found.model,
                "version": found.number,
                "outputs": outputs,
                "took": round(time.monotonic() - began, 6),
                **answer_of(model, fell_back),
            }
        )

    def dispatch(self, request: Any, *args: Any, **options: Any) -> Any:
        """Count what is answered, whatever it is."""
        began, status = time.monotonic(), 500
        try:
            response = super().dispatch(request, *args, **options)
            status = response.status_code
        finally:
            traffic.note(time.monotonic() - began, status)
        return response


class Batch(APIView):
    """Answers to many items, as a task."""

    scopes = {"POST": "predict"}

    @extend_schema(
        operation_id="inference_batch",
        request=BatchRequest,
        responses={200: BatchResponse, 202: TaskSerializer},
        parameters=[
            OpenApiParameter(
                "Prefer", str, "header", description="wait=N seconds, or respond-async"
            ),
            OpenApiParameter("Idempotency-Key", str, "header"),
        ],
    )
    def post(self, request: Request) -> Response:
        asked = BatchRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        fields = asked.validated_data
        if any(name in fields for name in UPLOADS):
            response = self._from_uploads(request, fields)
            dispatcher.nudge()
            return response
        form, items = "inputs", fields.get("inputs")
        if "protein_ligand_pairs" in fields:
            form, items = "pairs", fields["protein_ligand_pairs"]
        version = batches.version_for(fields.get("model"), form, lambda: items)
        path, count = write_items(items)

        def make() -> Response:
            task = batches.accept(
                version, form, path, count, user=request.user, asked=fields
            )
            return self._accepted(task)

        try:
            response = once(request, make)
        finally:
            path.unlink(missing_ok=True)
        dispatcher.nudge()
        is_short = count <= MOST_ONLINE and fields.get("format", "jsonl") == "jsonl"
        return self._waited(request, response) if is_short else response

    def _from_uploads(self, request: Request, fields: Mapping[str, Any]) -> Response:
        def make() -> Response:
            # Held until the commit, so that no upload is deleted before a task names it.
            found = given.given(fields, request.user)
            task = batches.accept_given(
                version, found, count, user=request.user, asked=fields
            )
            return self._accepted(task)

        found = given.given(fields, request.user)
        count = found.count()
        version = batches.version_for(fields.get("model"), "inputs", found.head)
        return once(request, make)

    def _accepted(self, task: Task) -> Response:
        where = {"Location": f"/api/v1/tasks/{task.pk}"}
        return Response(TaskSerializer(task).data, 202, headers=where)

    def _waited(self, request: Request, response: Response) -> Response:
        """The results if they come within the wished time; otherwise the task as it is."""
        pk = int(response.data["id"])
        seconds = batches.wished_wait(request.headers.get("Prefer", ""))
        is_held = Task.objects.filter(pk=pk, held=True).exists()
        if (
            is_held
            or not Node.objects.up(clock.now()).filter(lane=gateway.LANE).exists()
        ):
            seconds = 0.0
        is_over = batches.wait_until_over(pk, seconds)
        task = Task.objects.select_related("node", "owner").filter(pk=pk).first()
        if task is None:
            return response
        headers = {"Location": response["Location"]}
        if is_over and (body := batches.results(task)):
            return Response(body, headers=headers)
        return Response(TaskSerializer(task).data, 202, headers=headers)


class Status(APIView):
    """The inference workers with the models that they hold; of one that is silent, the last word."""

    @extend_schema(operation_id="inference_status", responses=StatusResponse)
    def get(self, request: Request) -> Response:
        moment = clock.now()
        nodes = Node.objects.filter(lane=gateway.LANE, stopped_at=None)
        placed = Task.objects.placed().filter(node__in=nodes)
        running: dict[int | None, list[str]] = {}
        for task, node in placed.values_list("pk", "node_id"):
            running.setdefault(node, []).append(str(task))
        waiting = Task.objects.filter(kind="predict", state=State.PENDING).count()
        told = commands.statuses()
        workers = [
            {
                "name": node.name,
                "state": node.condition(moment),
                "beat_at": node.beat_at,
                "running": running.get(node.pk, []),
                **NOTHING_YET,
                **(told.get(node.name) or node.status),
                "is_live": node.name in told,
            }
            for node in nodes
        ]
        requests = traffic.status()
        return Response({"workers": workers, "requests": requests, "waiting": waiting})


class Tell(APIView):
    """What every inference worker does with one model, and how that went."""

    scopes = {"POST": "predict"}
    command = ""
    fields: type[ModelRequest] = ModelRequest

    def post(self, request: Request) -> Response:
        asked = self.fields(data=request.data)
        asked.is_valid(raise_exception=True)
        version = resolve(asked.validated_data["model"])
        seconds = float(settings.ENVIRONMENT.predict_timeout)
        told = commands.tell_all(
            self.command,
            version.pk,
            seconds=asked.validated_data.get("wait", seconds),
            pin=asked.validated_data.get("pin", False),
        )
        body: dict[str, Any] = {"model": version.model.name, "version": version.number}
        return Response({**body, "workers": told})


@extend_schema_view(post=extend_schema(request=PreloadRequest, responses=TellResponse))
class Preload(Tell):
    """Load a model on every inference worker before it is asked for."""

    command = "preload"
    fields = PreloadRequest


@extend_schema_view(post=extend_schema(request=ModelRequest, responses=TellResponse))
class Evict(Tell):
    """Unpin a model, and let it go on every inference worker where it is idle."""

    command = "evict"
