from __future__ import annotations

from django.contrib import admin

from registry.admin.filters import among
from registry.admin.page import Page
from registry.models import Upload


@admin.register(Upload)
class UploadPage(Page):
    list_display = (
        "id", "name", "filename", "state", "reason", "size", "received", "rows",
        "owner", "created_at",
    )  # fmt: skip
    list_display_links = ("id", "name")
    list_filter = (among("state", Upload.State.values),)
    list_select_related = ("owner",)
    search_fields = ("name", "filename", "sha256")
    sortable_by = ("id", "size")
