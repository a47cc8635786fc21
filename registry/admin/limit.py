"""Limits of users, which staff set, and what users had lately."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from registry import dispatcher, limits
from registry.admin.page import Page
from registry.models import Use, UserLimit
from registry.serializers.limits import MOST


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = UserLimit
        fields = ["user", *limits.WHAT]
        help_texts = {"user": "Nobody: the limit of all who have none of their own."}

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = super().clean() or self.cleaned_data
        for what in limits.WHAT:
            if (asked.get(what) or 0) > MOST:
                self.add_error(what, f"At most {MOST}.")
        return asked


@admin.register(UserLimit)
class UserLimitPage(Page):
    editable = limits.WHAT
    form = LimitForm
    list_display = ("__str__", *limits.WHAT)
    list_select_related = ("user",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": LimitForm.Meta.fields})]
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        amounts = {what: getattr(obj, what) for what in limits.WHAT}
        obj.pk = limits.put(obj.user, amounts).pk
        transaction.on_commit(dispatcher.nudge, robust=True)


@admin.register(Use)
class UsePage(Page):
    list_display = ("owner", "seconds", "as_of")
    list_select_related = ("owner",)
    ordering = ("-seconds",)
