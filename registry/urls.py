from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from registry.views.many import CancelMany, PurgeMany, RetryMany
from registry.views.models import models_urls
from registry.views.services import services_urls
from registry.views.tasks import Errors, NodeViewSet, TaskViewSet
from registry.views.uploads import uploads_urls

router = SimpleRouter(trailing_slash=False)
router.register("tasks", TaskViewSet, basename="task")
router.register("nodes", NodeViewSet, basename="node")

urlpatterns = [
    path("tasks/retry", RetryMany.as_view()),
    path("tasks/purge", PurgeMany.as_view()),
    path("tasks/cancel", CancelMany.as_view()),
    *router.urls,
    *models_urls,
    *uploads_urls,
    *services_urls,
    path("errors", Errors.as_view()),
]
