from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Count, OuterRef, Prefetch, Subquery
from django.urls import path
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from registry import versions
from registry.addresses import ALIAS, check_alias, find
from registry.errors import Problem
from registry.models import Alias, Model, ModelVersion, Second
from registry.serializers.aliases import AliasRequest, AliasSerializer
from registry.serializers.models import (
    ModelDetail,
    ModelSerializer,
    VersionSerializer,
    VersionSummary,
)


class ModelFilter(filters.FilterSet):  # type: ignore[misc]
    q = filters.CharFilter(field_name="name", lookup_expr="icontains")

    class Meta:
        model = Model
        fields: list[str] = []


def shown_models() -> Any:
    """Models with their newest version and aliases, in a fixed number of queries."""
    newest = ModelVersion.objects.filter(model=OuterRef("model")).order_by("-number")
    latest = ModelVersion.objects.filter(number=Subquery(newest.values("number")[:1]))
    rows = latest.select_related("model", "owner").prefetch_related("aliases")
    counted = Model.objects.annotate(version_count=Count("versions"))
    return counted.select_related("rule__owner").prefetch_related(
        "aliases__version", Prefetch("versions", rows, to_attr="newest")
    )


def shown_versions() -> Any:
    rows = ModelVersion.objects.select_related("model", "owner")
    return rows.prefetch_related("aliases")


@extend_schema_view(get=extend_schema(operation_id="models_list"))
class Models(ListAPIView[Model]):
    """The models, those with the newest name first; shared by all users."""

    serializer_class = ModelSerializer
    filterset_class = ModelFilter

    def get_queryset(self) -> Any:
        return shown_models()


class ModelView(RetrieveAPIView[Model]):
    """One model with its newest versions."""

    serializer_class = ModelDetail
    lookup_field = "name"

    def get_object(self) -> Model:
        model: Model = shown_models().get(pk=find(self.kwargs["name"]).pk)
        return model

    def get_queryset(self) -> Any:
        return Model.objects.all()


@extend_schema_view(get=extend_schema(operation_id="models_versions_list"))
class Versions(ListAPIView[ModelVersion]):
    """The versions of one model, the newest first."""

    serializer_class = VersionSummary
    filterset_class = None
    filter_backends: list[Any] = []

    def get_queryset(self) -> Any:
        if getattr(self, "swagger_fake_view", False):
            return ModelVersion.objects.none()
        return shown_versions().filter(model=find(self.kwargs["name"]))


class VersionView(GenericAPIView[ModelVersion]):
    """One version: where it came from, what it takes and gives, how good it is."""

    serializer_class = VersionSerializer
    queryset = ModelVersion.objects.all()
    scopes = {"DELETE": "registry"}

    @extend_schema(operation_id="models_versions_retrieve")
    def get(self, request: Request, name: str, number: int) -> Response:
        return Response(VersionSerializer(version_of(name, number)).data)

    @extend_schema(operation_id="models_versions_destroy", responses={204: None})
    def delete(self, request: Request, name: str, number: int) -> Response:
        """Delete it, unless an alias names it or a live task uses it; its files go with a later cleaning."""
        version = version_of(name, number)
        only_owner(request, version)
        versions.delete(version, by=request.user.get_username())
        return Response(status=204)


class AliasView(GenericAPIView[Alias]):
    """A movable name of one version."""

    serializer_class = AliasSerializer
    queryset = Alias.objects.all()
    scopes = {"POST": "registry", "DELETE": "registry"}

    @extend_schema(operation_id="models_aliases_retrieve")
    def get(self, request: Request, name: str, alias: str) -> Response:
        """What it names, and how a second version beside it does; its moves are in the model's history."""
        return Response(AliasSerializer(alias_of(name, alias)).data)

    @extend_schema(
        operation_id="models_aliases_move",
        request=AliasRequest,
        responses=AliasSerializer,
    )
    def post(self, request: Request, name: str, alias: str) -> Response:
        """Make it name that version from now on, for every request after the answer.

        What stood beside the version before ends with it; `split` or `shadow` puts a second one there.
        """
        asked = AliasRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        version = version_of(name, asked.validated_data["version"])
        only_owner(request, version)
        beside = asked.beside
        second = version_of(name, beside[0]) if beside else None
        if second is not None:
            only_owner(request, second)
        with transaction.atomic():
            before = version.model.aliases.filter(name=check_alias(alias))
            if row := before.select_related("version").first():
                only_owner(request, row.version)
            by = request.user.get_username()
            row = version.model.point(alias, version, by=by)
            if beside and second is not None:
                Second.put(row, second, beside[1])
        return Response(AliasSerializer(alias_of(name, alias)).data)

    @extend_schema(operation_id="models_aliases_destroy", responses={204: None})
    def delete(self, request: Request, name: str, alias: str) -> Response:
        row = alias_of(name, alias)
        only_owner(request, row.version)
        row.model.remove(row, by=request.user.get_username())
        return Response(status=204)


def version_of(name: str, number: int) -> ModelVersion:
    """That version. Raises Problem `unknown_model`."""
    model = find(name)
    version: ModelVersion | None = (
        shown_versions().filter(model=model, number=number).first()
    )
    if version is None:
        raise Problem("unknown_model", f"The model {name} has no version {number}.")
    return version


def alias_of(name: str, alias: str) -> Alias:
    """That alias, with what stands beside it. Raises Problem `not_found`, `unknown_model`."""
    rows = find(name).aliases.select_related(
        "model", "version__model", "second__version__model"
    )
    row = rows.filter(name=alias).first() if ALIAS.match(alias) else None
    if row is None:
        raise Problem("not_found", f"The model {name} has no alias {alias[:60]!a}.")
    return row


def only_owner(request: Request, version: ModelVersion) -> None:
    """Let pass who trained it, and staff. Raises Problem `forbidden`."""
    user: Any = request.user
    if not user.is_staff and version.owner_id != user.pk:
        text = f"Only the owner of {version} or a staff user may do that."
        raise Problem("forbidden", text)


models_urls = [
    path("models/<str:name>", ModelView.as_view()),
    path("models/<str:name>/versions", Versions.as_view()),
    path("models/<str:name>/versions/<int:number>", VersionView.as_view()),
    path("models/<str:name>/aliases/<str:alias>", AliasView.as_view()),
]
