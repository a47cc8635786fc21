from __future__ import annotations

from django.contrib import admin

from registry.admin.filters import among
from registry.admin.page import Newest, Page
from registry.models import Service, ServiceEvent


@admin.register(Service)
class ServicePage(Page):
    list_display = (
        "service_name", "host", "port", "state", "version", "weight", "connections",
        "registered_at", "beat_at",
    )  # fmt: skip
    list_filter = (among("state", Service.State.values),)
    search_fields = ("service_name", "host")


@admin.register(ServiceEvent)
class ServiceEventPage(Page):
    list_display = ("at", "service_name", "instance", "address", "state", "message")
    ordering = ("-pk",)
    paginator = Newest
    search_fields = ("service_name", "address")
    sortable_by = ()
