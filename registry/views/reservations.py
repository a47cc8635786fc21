from __future__ import annotations

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import clock, dispatcher, reservations
from registry.errors import Problem
from registry.idempotency import once
from registry.models import Reservation
from registry.serializers.reservations import (
    ReservationChange,
    ReservationRequest,
    ReservationSerializer,
    shown,
)
from registry.serializers.shapes import results


class Reservations(APIView):
    """What is kept for some users and when; without `all`, what is not over yet."""

    scopes = {"POST": "admin"}

    @extend_schema(
        operation_id="v1_reservations_list",
        parameters=[
            OpenApiParameter("all", OpenApiTypes.BOOL, description="past ones too")
        ],
        responses=results("Reservations", ReservationSerializer),
    )
    def get(self, request: Request) -> Response:
        moment = clock.now()
        rows = Reservation.objects.select_related("node").prefetch_related("users")
        if request.query_params.get("all") != "true":
            rows = rows.filter(ends_at__gt=moment)
        return Response({"results": shown(rows, moment, many=True)})

    @extend_schema(
        operation_id="v1_reservations_create",
        request=ReservationRequest,
        responses={201: ReservationSerializer},
    )
    def post(self, request: Request) -> Response:
        def make() -> Response:
            asked = ReservationRequest(data=request.data)
            asked.is_valid(raise_exception=True)
            row = reservations.save(asked.validated_data)
            transaction.on_commit(dispatcher.nudge, robust=True)
            where = {"Location": f"/api/v1/reservations/{row.pk}"}
            return Response(shown(row, clock.now()), 201, headers=where)

        return once(request, make)


class ReservationDetail(APIView):
    scopes = {"PATCH": "admin", "DELETE": "admin"}

    @extend_schema(
        operation_id="v1_reservations_retrieve", responses=ReservationSerializer
    )
    def get(self, request: Request, pk: str) -> Response:
        return Response(shown(_found(pk), clock.now()))

    @extend_schema(
        operation_id="v1_reservations_partial_update",
        request=ReservationChange,
        responses=ReservationSerializer,
    )
    def patch(self, request: Request, pk: str) -> Response:
        asked = ReservationChange(data=request.data)
        asked.is_valid(raise_exception=True)
        row = reservations.save(asked.validated_data, _found(pk))
        transaction.on_commit(dispatcher.nudge, robust=True)
        return Response(shown(row, clock.now()))

    @extend_schema(operation_id="v1_reservations_destroy", responses={204: None})
    def delete(self, request: Request, pk: str) -> Response:
        _found(pk).delete()
        transaction.on_commit(dispatcher.nudge, robust=True)
        return Response(status=204)


def _found(pk: str) -> Reservation:
    row = Reservation.objects.select_related("node").filter(pk=int(pk)).first()
    if row is None:
        raise Problem("not_found", "There is no such reservation.")
    return row
