from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import FileResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from registry import dispatcher, jail, logs, orders, pages, store, stream
from registry.errors import CATALOGUE, Problem
from registry.filters import TaskFilter
from registry.models import Task
from registry.rendering import QuickJSONRenderer
from registry.serializers.shapes import ErrorEntry, FileEntry, LogPiece, results
from registry.serializers.tasks import (
    AttemptSerializer,
    EventSerializer,
    RetryRequest,
    TaskChange,
    TaskSerializer,
)
from registry.submission import check_priority

MOST_FILES = 10_000  # of one task that are listed


class TaskViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Task]):
    """Tasks of every kind and what may be asked of them."""

    serializer_class = TaskSerializer
    filterset_class = TaskFilter
    lookup_value_regex = "[0-9]{1,18}"
    queryset = Task.objects.all()

    def get_queryset(self) -> Any:
        rows: Any = super().get_queryset().select_related("node", "owner", "array")
        rows = rows.prefetch_related("dependencies")
        return rows.visible_to(self.request.user)

    def filter_queryset(self, queryset: Any) -> Any:
        """The elements of arrays stand in the list only when asked for."""
        if self.action != "list":
            return queryset
        found = TaskFilter(self.request.query_params, queryset, request=self.request)
        if not found.is_valid():
            raise ValidationError(found.errors)
        shows = found.shows_elements
        rows = found.qs if shows else found.qs.filter(array=None)
        return pages.lean(rows, with_elements=shows)

    def paginate_queryset(self, queryset: Any) -> Any:
        tasks = super().paginate_queryset(queryset)
        pages.add_dependencies(tasks or [])
        return tasks

    @extend_schema(request=TaskChange, responses=TaskSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        task = self.get_object()
        asked = TaskChange(data=request.data)
        asked.is_valid(raise_exception=True)
        check_priority(request.user, asked.validated_data.get("priority", 0))
        orders.change(task, asked.validated_data)
        if "priority" in asked.validated_data:
            transaction.on_commit(dispatcher.nudge, robust=True)
        return self._shown(task, 200)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        orders.purge(self.get_object())
        return Response(status=204)

    @extend_schema(request=None, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self._ordered(orders.cancel)

    @extend_schema(request=None, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str) -> Response:
        return self._ordered(orders.cancel)

    @extend_schema(request=None, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._ordered(orders.pause)

    @extend_schema(request=None, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._ordered(orders.resume)

    @extend_schema(request=None, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        return self._ordered(orders.resume)

    @extend_schema(request=RetryRequest, responses={202: TaskSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        asked = RetryRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        over = asked.validated_data["from"] == "start"
        return self._ordered(lambda task: orders.retry(task, start_over=over))

    @extend_schema(responses=results("Attempts", AttemptSerializer), filters=False)
    @action(detail=True, pagination_class=None)
    def attempts(self, request: Request, pk: str) -> Response:
        rows = self.get_object().attempts.select_related("node")
        return Response({"results": AttemptSerializer(rows, many=True).data})

    @extend_schema(
        responses={
            (200, "application/json"): results("Events", EventSerializer),
            (200, "text/event-stream"): OpenApiTypes.STR,
        },
        filters=False,
    )
    @action(
        detail=True,
        pagination_class=None,
        renderer_classes=[QuickJSONRenderer, stream.EventStreamRenderer],
    )
    def events(self, request: Request, pk: str) -> HttpResponseBase:
        task = self.get_object()
        accepted: Any = request.accepted_renderer
        if accepted.format == "event-stream":
            return stream.respond(task, request.headers.get("Last-Event-ID", ""))
        rows = EventSerializer(task.events.all(), many=True)
        return Response({"results": rows.data})

    @extend_schema(
        parameters=[
            OpenApiParameter("offset", OpenApiTypes.INT64, description="bytes"),
            OpenApiParameter("limit", OpenApiTypes.INT64, description="bytes"),
            OpenApiParameter("tail", OpenApiTypes.INT64, description="bytes"),
        ],
        responses=LogPiece,
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def logs(self, request: Request, pk: str) -> Response:
        return Response(logs.read(self.get_object(), request.query_params))

    @extend_schema(
        operation_id="v1_tasks_files_list",
        responses=results("Files", FileEntry),
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def files(self, request: Request, pk: str) -> Response:
        home = store.task_path(self.get_object().pk) / "files"
        found = jail.walk(home, MOST_FILES)
        return Response(
            {"results": [{"name": name, "size": size} for name, size in found]}
        )

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(detail=True, url_path=r"files/(?P<name>.{1,1000})")
    def file(self, request: Request, pk: str, name: str) -> FileResponse:
        home = store.task_path(self.get_object().pk) / "files"
        descriptor = jail.open_file(home, name) if home.is_dir() else None
        if descriptor is None:
            raise Problem("not_found", "The task has no file of that name.")
        file = open(descriptor, "rb")  # noqa: PTH123, SIM115  # the response closes it
        short = name.rpartition("/")[2]
        return FileResponse(file, as_attachment=True, filename=short)

    def _ordered(self, verb: Callable[[Task], None]) -> Response:
        task = self.get_object()
        verb(task)
        transaction.on_commit(dispatcher.nudge, robust=True)
        return self._shown(task)

    def _accepted(self, task: Task) -> Response:
        """A task as it was just made here; nothing else can have touched it yet."""
        if task.held or task.is_head:
            response = self._shown(task)
        else:
            vars(task)["_prefetched_objects_cache"] = {"dependencies": []}
            response = Response(self.get_serializer(task).data, 202)
        response["Location"] = f"/api/v1/tasks/{task.pk}"
        return response

    def _shown(self, task: Task, status: int = 202) -> Response:
        task = self.get_queryset().get(pk=task.pk)
        return Response(self.get_serializer(task).data, status)


class Errors(GenericAPIView[Any]):
    """The catalogue of error codes."""

    pagination_class = None

    @extend_schema(responses=results("Errors", ErrorEntry))
    def get(self, request: Request) -> Response:
        return Response(
            {
                "results": [
                    {"code": code, "status": status, "title": title}
                    for code, (status, title) in CATALOGUE.items()
                ]
            }
        )
