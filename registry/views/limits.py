from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import dispatcher, limits
from registry.errors import Problem
from registry.models import UserLimit
from registry.serializers.limits import (
    LimitRequest,
    LimitSerializer,
    MyLimitSerializer,
)
from registry.serializers.shapes import results


class Limits(APIView):
    """The limits of users, and of everybody who has none (`default`)."""

    scopes = {"GET": "admin"}

    @extend_schema(
        operation_id="v1_limits_list", responses=results("Limits", LimitSerializer)
    )
    def get(self, request: Request) -> Response:
        rows = UserLimit.objects.select_related("user")
        return Response({"results": LimitSerializer(rows, many=True).data})


class MyLimit(APIView):
    """What you may hold, what you hold, and what you had lately."""

    @extend_schema(operation_id="v1_limits_me", responses=MyLimitSerializer)
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response(MyLimitSerializer(limits.told(user)).data)


class LimitDetail(APIView):
    """The limit of one user by name, or `default`."""

    scopes = dict.fromkeys(("GET", "PUT", "DELETE"), "admin")

    @extend_schema(operation_id="v1_limits_retrieve", responses=LimitSerializer)
    def get(self, request: Request, name: str) -> Response:
        row = limits.own(limits.user_named(name))
        if row is None:
            raise Problem("not_found", f"{name} has no limit of their own.")
        return Response(LimitSerializer(row).data)

    @extend_schema(
        operation_id="v1_limits_update",
        request=LimitRequest,
        responses=LimitSerializer,
    )
    def put(self, request: Request, name: str) -> Response:
        asked = LimitRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        row = limits.put(limits.user_named(name), asked.validated_data)
        transaction.on_commit(dispatcher.nudge, robust=True)
        return Response(LimitSerializer(row).data)

    @extend_schema(operation_id="v1_limits_destroy", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        limits.remove(limits.user_named(name))
        transaction.on_commit(dispatcher.nudge, robust=True)
        return Response(status=204)
