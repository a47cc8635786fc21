from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from registry import dispatcher
from registry.idempotency import once
from registry.models import Task
from registry.serializers.tasks import TaskSerializer
from registry.views.tasks import TaskViewSet
from training.script_files import script_path
from training.script_serializers import ScriptRequest
from training.script_submission import submit


@extend_schema_view(files=extend_schema(operation_id="v1_scripts_files_list"))
class ScriptViewSet(TaskViewSet):
    """Scripts: the tasks of kind `script`."""

    queryset = Task.objects.filter(kind="script")
    scopes = {"POST": "script"}
    texts = ("script",)

    @extend_schema(request=ScriptRequest, responses={202: TaskSerializer})
    def create(self, request: Request) -> Response:
        asked = ScriptRequest(data=request.data)
        asked.is_valid(raise_exception=True)

        def accept() -> Response:
            task = submit(request.user, asked.validated_data)
            transaction.on_commit(dispatcher.nudge, robust=True)
            return self._accepted(task)

        return once(request, accept)

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR}, filters=False)
    @action(detail=True, pagination_class=None)
    def script(self, request: Request, pk: str) -> HttpResponse:
        """The whole text."""
        task: Any = self.get_object()
        path = script_path(task)
        text = path.read_bytes() if path.exists() else task.asked["script"].encode()
        return HttpResponse(text, content_type="text/plain; charset=utf-8")
