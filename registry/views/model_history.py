from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import lineage
from registry.addresses import find, resolve
from registry.errors import Problem
from registry.figures import compare
from registry.models import Model, ModelEvent
from registry.serializers.model_history import (
    Comparison,
    EventSerializer,
    Lineage,
    RuleRequest,
    RuleSerializer,
)
from registry.views.models import only_owner, version_of


@extend_schema_view(
    get=extend_schema(
        operation_id="models_history_list",
        parameters=[OpenApiParameter("alias", description="of this alias alone")],
    )
)
class History(ListAPIView[ModelEvent]):
    """What happened to a model's versions and aliases, the newest first."""

    serializer_class = EventSerializer
    filterset_class = None
    filter_backends: list[Any] = []

    def get_queryset(self) -> Any:
        if getattr(self, "swagger_fake_view", False):
            return ModelEvent.objects.none()
        rows = find(self.kwargs["name"]).events.all()
        alias = self.request.query_params.get("alias")
        return rows if alias is None else rows.filter(alias=alias[:60])


class Promotion(APIView):
    """The rule by which a new version takes an alias by itself."""

    scopes = {"PUT": "registry", "DELETE": "registry"}

    @extend_schema(operation_id="models_promotion_retrieve", responses=RuleSerializer)
    def get(self, request: Request, name: str) -> Response:
        rule = getattr(find(name), "rule", None)
        if rule is None:
            raise Problem("not_found", f"The model {name} has no such rule.")
        return Response(RuleSerializer(rule).data)

    @extend_schema(
        operation_id="models_promotion_set",
        request=RuleRequest,
        responses=RuleSerializer,
    )
    def put(self, request: Request, name: str) -> Response:
        """Set it, in the place of an earlier one; it looks at versions to come."""
        asked = RuleRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        model = find(name)
        only_ruler(request, model, asked.validated_data["alias"])
        by = request.user.get_username()
        rule = model.set_rule(owner=request.user, by=by, **asked.validated_data)
        return Response(RuleSerializer(rule).data)

    @extend_schema(operation_id="models_promotion_remove", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        model = find(name)
        if (rule := getattr(model, "rule", None)) is not None:
            only_ruler(request, model, rule.alias)
            model.remove_rule(by=request.user.get_username())
        return Response(status=204)


class Compare(APIView):
    """A version's metrics and parameters beside those of another one."""

    @extend_schema(
        operation_id="models_versions_compare",
        responses=Comparison,
        parameters=[
            OpenApiParameter(
                "with",
                description="the other's address (name, name:3, name@alias), or a number; "
                "the version before it if not given",
            )
        ],
    )
    def get(self, request: Request, name: str, number: int) -> Response:
        version = version_of(name, number)
        address = request.query_params.get("with", "")
        if address.isascii() and address.isdigit():
            other = version_of(name, int(address))
        elif address:
            other = resolve(address)
        else:
            before = version.model.versions.filter(number__lt=number)
            found = before.order_by("-number").first()
            if found is None:
                text = f"there is no version before {version}; name one"
                raise Problem("invalid", f"with: {text}.", errors={"with": [text]})
            other = found
        return Response(Comparison(compare(version, other)).data)


class LineageView(APIView):
    """Where a version came from."""

    @extend_schema(operation_id="models_versions_lineage", responses=Lineage)
    def get(self, request: Request, name: str, number: int) -> Response:
        return Response(Lineage(lineage.told(version_of(name, number))).data)


def only_ruler(request: Request, model: Model, alias: str) -> None:
    """Let pass staff, the rule's owner, and who may move the alias. Raises Problem `forbidden`."""
    user: Any = request.user
    rule = getattr(model, "rule", None)
    if user.is_staff or (rule is not None and rule.owner_id == user.pk):
        return
    if rule is not None:
        raise Problem("forbidden", "Only the rule's owner or a staff user may do that.")
    row = model.aliases.filter(name=alias).select_related("version__model").first()
    version = row.version if row else model.versions.order_by("-number").first()
    if version is None:
        raise Problem("forbidden", "Only a staff user may do that.")
    only_owner(request, version)


model_history_urls = [
    path("models/<str:name>/history", History.as_view()),
    path("models/<str:name>/promotion", Promotion.as_view()),
    path("models/<str:name>/versions/<int:number>/compare", Compare.as_view()),
    path("models/<str:name>/versions/<int:number>/lineage", LineageView.as_view()),
]
