from __future__ import annotations

from django.contrib import admin

from registry.admin.filters import OfTask
from registry.admin.page import Newest, Page
from training.models import Metric


@admin.register(Metric)
class MetricPage(Page):
    list_display = ("task_id", "name", "step", "value", "attempt", "at")
    list_filter = (OfTask,)
    ordering = ("-pk",)
    paginator = Newest
    sortable_by = ()
