"""Models: versions go by their rule alone, aliases move."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html_join

from registry import versions
from registry.addresses import check_alias
from registry.admin.page import Page
from registry.errors import Problem
from registry.models import (
    Alias,
    Model,
    ModelEvent,
    ModelVersion,
    PromotionRule,
    Second,
    Traffic,
)
from registry.serializers import aliases


@admin.register(Model)
class ModelPage(Page):
    editable = ("description",)
    list_display = ("name", "last_number", "created_at")
    search_fields = ("name",)


@admin.register(ModelVersion)
class ModelVersionPage(Page):
    list_display = ("__str__", "recipe", "size", "task_id", "owner", "created_at")
    list_select_related = ("model", "owner")
    ordering = ("-pk",)
    search_fields = ("model__name", "digest", "weights_sha256")
    sortable_by = ("size",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What would go, and the aliases that stand against it."""
        versions_asked = list(objs)
        of_these = Q(version__in=versions_asked) | Q(second__version__in=versions_asked)
        named = Alias.objects.filter(of_these).select_related("model")
        against = [f"{alias}: move or delete it first" for alias in named]
        for version in versions_asked:
            if task := versions.user_of(version):
                against.append(f"task {task.pk} uses {version} and is {task.state}")
        texts = [str(version) for version in versions_asked]
        return texts, {"model versions": len(texts)}, set(), against

    def delete_model(self, request: HttpRequest, obj: ModelVersion) -> None:
        try:
            versions.delete(obj, by=request.user.get_username())
        except Problem as problem:
            raise PermissionDenied(problem.detail) from None

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            for version in queryset:
                self.delete_model(request, version)


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Alias
        fields = ["model", "name", "version"]

    def clean_name(self) -> str:
        try:
            return check_alias(self.cleaned_data["name"])
        except Problem as problem:
            raise forms.ValidationError(problem.detail) from None

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = super().clean() or self.cleaned_data
        model, version = (
            asked.get("model", self.instance.model_id),
            asked.get("version"),
        )
        if model and version and version.model_id != getattr(model, "pk", model):
            self.add_error("version", f"{version} is not a version of that model.")
        return asked


@admin.register(Alias)
class AliasPage(Page):
    editable = ("version",)
    form = AliasForm
    list_display = ("__str__", "version", "moved_at")
    list_select_related = ("model", "version__model")
    search_fields = ("name", "model__name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": AliasForm.Meta.fields})]
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        choice: Any = form.base_fields.get("version")
        if choice is not None:
            versions = ModelVersion.objects.select_related("model")
            of_model = {} if obj is None else {"model": obj.model_id}
            choice.queryset = versions.filter(**of_model)
        return form

    def save_model(
        self, request: HttpRequest, obj: Any, form: Any, change: Any
    ) -> None:
        by = request.user.get_username()
        row = obj.model.point(obj.name, obj.version, by=by)
        obj.pk, obj.moved_at = row.pk, row.moved_at

    def delete_model(self, request: HttpRequest, obj: Alias) -> None:
        obj.model.remove(obj, by=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for alias in queryset:
            self.delete_model(request, alias)


@admin.register(Second)
class SecondPage(Page):
    """A split or a shadow; it is set where aliases move, and may be ended here."""

    list_display = ("__str__", "weight", "since", "compared")
    list_select_related = ("alias__model", "alias__version", "version__model")
    ordering = ("-pk",)
    search_fields = ("alias__name", "alias__model__name")
    hidden = ("figures",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        (title, options), *rest = super().get_fieldsets(request, obj)
        return [(title, {"fields": [*options["fields"], "compared"]}), *rest]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    @admin.display(description="figures")
    def compared(self, row: Second) -> str:
        """What each version answered, or how the shadow differs."""
        found = aliases.shadow(row) if row.is_shadow else aliases.split(row)
        rows = _lines({k: v for k, v in found.items() if k not in ("version", "since")})
        return format_html_join("", "{}: {}<br>", rows)


@admin.register(Traffic)
class TrafficPage(Page):
    list_display = ("name", "since")


@admin.register(ModelEvent)
class ModelEventPage(Page):
    list_display = ("at", "model", "verb", "alias", "before", "after", "by")
    list_filter = ("verb",)
    list_select_related = ("model",)
    ordering = ("-pk",)
    search_fields = ("model__name", "alias", "by")
    sortable_by = ()


@admin.register(PromotionRule)
class PromotionRulePage(Page):
    list_display = ("model", "alias", "metric", "direction", "minimum_difference")
    list_select_related = ("model", "owner")
    search_fields = ("model__name", "metric")


def _lines(found: Any, at: str = "") -> list[tuple[str, Any]]:
    if not isinstance(found, dict):
        return [(at.replace("_", " "), "-" if found is None else found)]
    return [
        line
        for name, one in found.items()
        for line in _lines(one, f"{at} {name}".strip())
    ]
