from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import dispatcher, lanes
from registry.errors import Problem
from registry.serializers.lanes import LaneSerializer, PauseLaneRequest
from registry.serializers.shapes import results


class Lanes(APIView):
    """The lanes with what waits and runs on them."""

    @extend_schema(
        operation_id="v1_lanes_list", responses=results("Lanes", LaneSerializer)
    )
    def get(self, request: Request) -> Response:
        rows = [lanes.shown(name) for name in lanes.NAMES]
        return Response({"results": LaneSerializer(rows, many=True).data})


class LaneDetail(APIView):
    @extend_schema(operation_id="v1_lanes_retrieve", responses=LaneSerializer)
    def get(self, request: Request, name: str) -> Response:
        return _shown(_known(name))


class PauseLane(APIView):
    """Let nothing begin on a lane; what runs goes on."""

    scopes = {"POST": "admin"}

    @extend_schema(
        operation_id="v1_lanes_pause",
        request=PauseLaneRequest,
        responses=LaneSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        asked = PauseLaneRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        note = asked.validated_data["note"]
        return _changed(name, lambda: lanes.pause(name, note))


class ResumeLane(APIView):
    scopes = {"POST": "admin"}

    @extend_schema(
        operation_id="v1_lanes_resume", request=None, responses=LaneSerializer
    )
    def post(self, request: Request, name: str) -> Response:
        return _changed(name, lambda: lanes.resume(name))


def _changed(name: str, change: Callable[[], Any]) -> Response:
    _known(name)
    change()
    transaction.on_commit(dispatcher.nudge, robust=True)
    return _shown(name)


def _known(name: str) -> str:
    if name not in lanes.NAMES:
        text = f"There is no such lane; there are {', '.join(lanes.NAMES)}."
        raise Problem("not_found", text)
    return name


def _shown(name: str) -> Response:
    return Response(LaneSerializer(lanes.shown(name)).data)
