from __future__ import annotations

from django.urls import path, re_path
from rest_framework.routers import SimpleRouter

from registry.views.lanes import LaneDetail, Lanes, PauseLane, ResumeLane
from registry.views.limits import LimitDetail, Limits, MyLimit
from registry.views.many import CancelMany, PurgeMany, RetryMany
from registry.views.model_files import model_files_urls
from registry.views.model_history import model_history_urls
from registry.views.models import models_urls
from registry.views.nodes import NodeViewSet, RescueViewSet
from registry.views.reservations import ReservationDetail, Reservations
from registry.views.services import services_urls
from registry.views.tasks import Errors, TaskViewSet
from registry.views.uploads import uploads_urls

router = SimpleRouter(trailing_slash=False)
router.register("tasks", TaskViewSet, basename="task")
router.register("nodes", NodeViewSet, basename="node")
router.register("rescues", RescueViewSet, basename="rescue")

urlpatterns = [
    path("tasks/retry", RetryMany.as_view()),
    path("tasks/purge", PurgeMany.as_view()),
    path("tasks/cancel", CancelMany.as_view()),
    *router.urls,
    *models_urls,
    *model_files_urls,
    *model_history_urls,
    *uploads_urls,
    *services_urls,
    path("lanes", Lanes.as_view()),
    path("lanes/<str:name>", LaneDetail.as_view()),
    path("lanes/<str:name>/pause", PauseLane.as_view()),
    path("lanes/<str:name>/resume", ResumeLane.as_view()),
    path("limits", Limits.as_view()),
    path("limits/me", MyLimit.as_view()),
    path("limits/<str:name>", LimitDetail.as_view()),
    path("reservations", Reservations.as_view()),
    re_path(r"^reservations/(?P<pk>[0-9]{1,18})$", ReservationDetail.as_view()),
    path("errors", Errors.as_view()),
]
