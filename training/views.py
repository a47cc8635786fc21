from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from registry import dispatcher, recipes
from registry.errors import Problem
from registry.idempotency import once
from registry.models import Task
from registry.recipes import Recipe
from registry.serializers.shapes import results
from registry.serializers.tasks import TaskSerializer
from registry.views.tasks import TaskViewSet
from training import series
from training.serializers import MetricsShape, RecipeShape, TrainRequest
from training.submission import submit


@extend_schema_view(files=extend_schema(operation_id="v1_training_tasks_files_list"))
class TrainingViewSet(TaskViewSet):
    """Trainings: the tasks of kind `train`."""

    queryset = Task.objects.filter(kind="train")

    @extend_schema(request=TrainRequest, responses={202: TaskSerializer})
    def create(self, request: Request) -> Response:
        asked = TrainRequest(data=request.data)
        asked.is_valid(raise_exception=True)

        def accept() -> Response:
            task = submit(request.user, asked.validated_data)
            transaction.on_commit(dispatcher.nudge, robust=True)
            return self._accepted(task)

        return once(request, accept)


class RecipeList(GenericAPIView[Any]):
    """What can be trained."""

    pagination_class = None

    @extend_schema(
        operation_id="v1_recipes_list", responses=results("Recipes", RecipeShape)
    )
    def get(self, request: Request) -> Response:
        return Response({"results": [shown(recipes.get(n)) for n in recipes.names()]})


class RecipeDetail(GenericAPIView[Any]):
    @extend_schema(responses=RecipeShape)
    def get(self, request: Request, name: str) -> Response:
        if name not in recipes.names():
            raise Problem("not_found", "There is no recipe of that name.")
        return Response(shown(recipes.get(name)))


class TaskMetrics(GenericAPIView[Task]):
    """A task's metric series, down-sampled."""

    queryset = Task.objects.all()
    pagination_class = None
    filter_backends: Any = []

    def get_queryset(self) -> Any:
        return super().get_queryset().visible_to(self.request.user)  # type: ignore[attr-defined]

    @extend_schema(
        parameters=[
            OpenApiParameter("name", OpenApiTypes.STR),
            OpenApiParameter(
                "points", OpenApiTypes.INT32, description="at most so many"
            ),
        ],
        responses=MetricsShape,
    )
    def get(self, request: Request, pk: str) -> Response:
        return Response(series.read(self.get_object(), request.query_params))


def shown(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "params": recipe.schema(),
        "inputs": dict(recipe.inputs),
        "outputs": dict(recipe.outputs),
        "resources": recipe.resources.as_dict(),
    }
