"""Keys: made here and shown once, revoked here; their digests are shown nowhere."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest

from registry import clock
from registry.admin.page import Page
from registry.models import ApiKey, IdempotencyKey
from registry.models.key import SCOPES


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        initial=[scope for scope in SCOPES if scope != "admin"],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = ApiKey
        fields = ["user", "name", "scopes", "expires_at"]

    def clean_expires_at(self) -> datetime.datetime | None:
        moment: datetime.datetime | None = self.cleaned_data["expires_at"]
        if moment is not None and moment <= clock.now():
            raise forms.ValidationError("That has passed already.")
        return moment


@admin.register(ApiKey)
class ApiKeyPage(Page):
    actions = ("revoke",)
    form = KeyForm
    hidden = ("sha256",)
    list_display = (
        "name", "prefix", "user", "scopes", "created_at", "expires_at", "last_used_at",
        "revoked_at",
    )  # fmt: skip
    list_select_related = ("user",)
    ordering = ("-pk",)
    search_fields = ("name", "prefix", "user__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": KeyForm.Meta.fields})]
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def formfield_for_foreignkey(
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> Any:
        """A key acts for its user; only a superuser makes keys for others."""
        field: Any = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None and not request.user.is_superuser:
            field.queryset = field.queryset.filter(pk=request.user.pk)
        return field

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        asked = form.cleaned_data
        row, secret = ApiKey.make(
            asked["user"],
            asked["name"],
            asked["scopes"],
            expires_at=asked["expires_at"],
        )
        obj.pk, obj.prefix = row.pk, row.prefix
        text = f"The key is {secret} - copy it now: it is shown this once."
        messages.warning(request, text)

    @admin.action(description="Revoke selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        keys = list(queryset.filter(revoked_at=None))
        for key in keys:
            ApiKey.objects.filter(pk=key.pk).update(revoked_at=clock.now())
            self.log_change(request, key, "Revoked.")
        text = f"Revoked {len(keys)} key{'s' * (len(keys) != 1)}."
        messages.success(request, text)
        if before := queryset.count() - len(keys):
            messages.warning(request, f"{before} of the chosen were revoked before.")


@admin.register(IdempotencyKey)
class IdempotencyKeyPage(Page):
    hidden = ("body", "headers")  # a first answer may hold a secret
    list_display = ("key", "user", "status", "created_at")
    list_select_related = ("user",)
    ordering = ("-pk",)
    search_fields = ("key", "user__username")
    sortable_by = ()
