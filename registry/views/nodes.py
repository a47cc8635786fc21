from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from registry import clock, draining
from registry.models import Incident, Node, Task
from registry.serializers.nodes import (
    DrainRequest,
    IncidentSerializer,
    NodeSerializer,
)
from registry.serializers.shapes import results


class NodeViewSet(GenericViewSet[Node]):
    """The nodes with what is used of them."""

    serializer_class = NodeSerializer
    queryset = Node.objects.all()
    lookup_field = "name"
    lookup_value_regex = "[^/]{1,255}"
    pagination_class = None
    scopes = {"POST": "admin"}

    @extend_schema(responses=results("Nodes", NodeSerializer))
    def list(self, request: Request) -> Response:
        return Response({"results": shown(self.get_queryset(), many=True)})

    def retrieve(self, request: Request, name: str) -> Response:
        return Response(shown(self.get_object()))

    @extend_schema(request=DrainRequest, responses={202: NodeSerializer})
    @action(detail=True, methods=["post"])
    def drain(self, request: Request, name: str) -> Response:
        node = self.get_object()
        asked = DrainRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        draining.drain(node, **asked.validated_data)
        return Response(shown(node), 202)

    @extend_schema(request=None, responses={202: NodeSerializer})
    @action(detail=True, methods=["post"])
    def undrain(self, request: Request, name: str) -> Response:
        node = self.get_object()
        draining.undrain(node)
        return Response(shown(node), 202)


class IncidentFilter(filters.FilterSet):  # type: ignore[misc]
    kind = filters.ChoiceFilter(choices=[("rescue", "rescue"), ("orphan", "orphan")])
    node = filters.CharFilter()

    class Meta:
        model = Incident
        fields: list[str] = []


class RescueViewSet(ListModelMixin, GenericViewSet[Incident]):
    """What was lost with nodes and rescued, the newest first."""

    serializer_class = IncidentSerializer
    filterset_class = IncidentFilter
    queryset = Incident.objects.all()


def shown(rows: Any, *, many: bool = False) -> Any:
    """Nodes as every route and command shows them."""
    context = {"now": clock.now(), "placed": list(Task.objects.placed())}
    return NodeSerializer(rows, many=many, context=context).data
