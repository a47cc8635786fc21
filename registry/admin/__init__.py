"""The admin of the control plane; each table's page in a module of its noun."""

from __future__ import annotations

from django.contrib import admin

from registry.admin import (  # noqa: F401
    history,
    key,
    lane,
    limit,
    model,
    node,
    reservation,
    result,
    service,
    task,
    upload,
    user,
)

admin.site.site_header = "Compass"
admin.site.site_title = "Compass"
admin.site.index_title = "Administration"
