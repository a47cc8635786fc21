from __future__ import annotations

from django.urls import path, re_path
from rest_framework.routers import SimpleRouter

from training.script_views import ScriptViewSet
from training.views import RecipeDetail, RecipeList, TaskMetrics, TrainingViewSet

router = SimpleRouter(trailing_slash=False)
router.register("training/tasks", TrainingViewSet, basename="training-task")
router.register("scripts", ScriptViewSet, basename="script")

urlpatterns = [
    *router.urls,
    re_path(
        r"^(?:training/)?tasks/(?P<pk>[0-9]{1,18})/metrics$", TaskMetrics.as_view()
    ),
    path("recipes", RecipeList.as_view()),
    path("recipes/<str:name>", RecipeDetail.as_view()),
]
