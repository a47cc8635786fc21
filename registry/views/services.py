from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from registry import discovery
from registry.errors import Problem
from registry.idempotency import once
from registry.models import Service, ServiceEvent
from registry.models.service import OWN
from registry.serializers.services import (
    Beat,
    Change,
    Registered,
    Registration,
    ServiceEventSerializer,
    ServiceSerializer,
)


def _refuse_own(name: str) -> None:
    """Whoever speaks for such a service would be sent what is to be predicted."""
    if name in OWN:
        raise Problem("forbidden", f"Services named {name} are Compass's own.")


class ServiceFilter(filters.FilterSet):  # type: ignore[misc]
    service_name = filters.CharFilter()
    state = filters.MultipleChoiceFilter(choices=Service.State.choices)

    class Meta:
        model = Service
        fields: list[str] = []


class Asked(serializers.Serializer[Any]):
    strategy = serializers.ChoiceField(
        choices=list(discovery.STRATEGIES), default="round_robin"
    )


@extend_schema_view(
    list=extend_schema(summary="Instances of services, newest first"),
    retrieve=extend_schema(summary="One instance"),
)
class ServiceViewSet(ListModelMixin, RetrieveModelMixin, GenericViewSet[Service]):
    """Running instances of services; each holds a lease that its beats renew."""

    serializer_class = ServiceSerializer
    filterset_class = ServiceFilter
    lookup_value_regex = "[0-9]{1,18}"
    queryset = Service.objects.all()
    scopes = {"POST": "registry", "PATCH": "registry", "DELETE": "registry"}

    @extend_schema(
        summary="Register an instance; the same name, host and port is the same one",
        request=Registration,
        responses={200: Registered, 201: Registered},
    )
    def register(self, request: Request) -> Response:
        asked = Registration(data=request.data)
        asked.is_valid(raise_exception=True)
        _refuse_own(asked.validated_data["service_name"])

        def make() -> Response:
            service, is_new = Service.register(**asked.validated_data)
            headers = {"Location": f"/api/v1/services/{service.pk}"} if is_new else {}
            shown = Registered(service).data
            return Response(shown, 201 if is_new else 200, headers=headers)

        return once(request, make)

    @extend_schema(
        summary="Renew the lease; 404 means register again",
        request=Beat,
        responses=ServiceSerializer,
    )
    def heartbeat(self, request: Request, pk: int) -> Response:
        told = Beat(data=request.data)
        told.is_valid(raise_exception=True)
        service = self.get_object()
        _refuse_own(service.service_name)
        if not service.beat(**told.validated_data):
            raise Problem("not_found", "The instance is not known; register again.")
        return Response(ServiceSerializer(service).data)

    @extend_schema(
        summary="Take an instance out of service, or back into it",
        request=Change,
        responses=ServiceSerializer,
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        asked = Change(data=request.data)
        asked.is_valid(raise_exception=True)
        service = self.get_object()
        service.put(asked.validated_data["state"], "Set by hand.")
        service.refresh_from_db()
        return Response(ServiceSerializer(service).data)

    @extend_schema(summary="Deregister an instance", responses={204: None})
    def destroy(self, request: Request, pk: int) -> Response:
        service = self.get_object()
        _refuse_own(service.service_name)
        service.deregister()
        return Response(status=204)

    @extend_schema(
        summary="The states of an instance, newest first, also after its end",
        responses=ServiceEventSerializer(many=True),
        filters=False,
    )
    @action(detail=True)
    def history(self, request: Request, pk: int) -> Response:
        rows: QuerySet[ServiceEvent] = ServiceEvent.objects.filter(instance=pk)
        if not rows.exists():
            raise Problem("not_found", "No instance ever had this id.")
        assert self.paginator is not None
        page = self.paginator.paginate_queryset(rows, request, view=self)
        shown = ServiceEventSerializer(page, many=True)
        return self.paginator.get_paginated_response(shown.data)

    @extend_schema(
        summary="One instance that should be asked now",
        parameters=[
            OpenApiParameter("strategy", str, enum=list(discovery.STRATEGIES)),
        ],
        responses=ServiceSerializer,
        filters=False,
    )
    def discover(self, request: Request, service_name: str) -> Response:
        asked = Asked(data=request.query_params)
        asked.is_valid(raise_exception=True)
        service = discovery.discover(service_name, asked.validated_data["strategy"])
        return Response(ServiceSerializer(service).data)


_view = ServiceViewSet.as_view
services_urls = [
    path("services", _view({"get": "list"}), name="service-list"),
    path("services/register", _view({"post": "register"}), name="service-register"),
    path(
        "services/discover/<str:service_name>",
        _view({"get": "discover"}),
        name="service-discover",
    ),
    path(
        "services/<int:pk>",
        _view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="service-detail",
    ),
    path(
        "services/<int:pk>/heartbeat",
        _view({"post": "heartbeat"}),
        name="service-heartbeat",
    ),
    path(
        "services/<int:pk>/history", _view({"get": "history"}), name="service-history"
    ),
]
