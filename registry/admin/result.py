"""Results of background tasks, as django-celery-results keeps them."""

from __future__ import annotations

from celery.states import ALL_STATES
from django.contrib import admin
from django_celery_results.admin import GroupResultAdmin, TaskResultAdmin
from django_celery_results.models import GroupResult, TaskResult

from registry.admin.filters import among
from registry.admin.page import Newest, Page

# The package's own pages offer to add results, and fail on dates beyond the calendar.
admin.site.unregister((TaskResult, GroupResult))


@admin.register(TaskResult)
class TaskResultPage(Page):
    fieldsets = TaskResultAdmin.fieldsets
    list_display = (
        "task_id", "task_name", "status", "worker", "date_started", "date_done",
    )  # fmt: skip
    list_filter = (among("status", sorted(ALL_STATES)),)
    ordering = ("-pk",)
    paginator = Newest
    search_fields = ("task_id", "task_name")
    sortable_by = ()


@admin.register(GroupResult)
class GroupResultPage(Page):
    list_display = GroupResultAdmin.list_display
    ordering = ("-pk",)
    paginator = Newest
    search_fields = ("group_id",)
    sortable_by = ()
