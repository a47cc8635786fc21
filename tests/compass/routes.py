"""Small views that show the edges of REST and nothing else."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.urls import path
from rest_framework import exceptions, serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry.errors import BadData, BadItem, Problem
from registry.idempotency import once
from registry.models import Task

NESTED = {
    "name": ["Too long."],
    "resources": {"cpus": ["At least 1.", "A number."]},
    "inputs": [{}, {"smiles": ["Empty."]}],
    "non_field_errors": ["They do not fit together."],
}
ERRORS: dict[str, Exception] = {
    "problem": Problem("wrong_state", "It is over.", errors={"state": ["completed"]}),
    "busy": Problem("uploads_busy", "Try again.", retry_after=1.2),
    "bad_data": BadData("No number.", row=3, column="affinity"),
    "bad_item": BadItem("No such residue."),
    "validation": exceptions.ValidationError(NESTED),
    "plain_validation": exceptions.ValidationError("Not so."),
    "parse": exceptions.ParseError("Cut off."),
    "denied": exceptions.PermissionDenied("Not you."),
    "django_denied": PermissionDenied("secret"),
    "missing": Http404("No Task matches the given query: secret"),
    "not_found": exceptions.NotFound(),
    "throttled": exceptions.Throttled(wait=7.4),
    "operational": OperationalError("secret: connection to 10.0.0.1 refused"),
    "interface": InterfaceError("secret: connection already closed"),
    "unforeseen": RuntimeError("secret"),
}


class Echo(APIView):
    def get(self, request: Request) -> Response:
        return Response({"user": request.user.get_username()})

    def post(self, request: Request) -> Response:
        return Response(request.data)


class Scoped(APIView):
    scopes = {"GET": "registry", "POST": "predict", "DELETE": "admin"}

    def get(self, request: Request) -> Response:
        return Response({})

    post = put = delete = get


class Fail(APIView):
    def get(self, request: Request, name: str) -> Response:
        raise ERRORS[name]


class Make(APIView):
    """Makes a task from `name`, once for each Idempotency-Key."""

    def post(self, request: Request) -> Response:
        return once(request, lambda: self.make(request))

    def make(self, request: Request) -> Response:
        data: dict[str, Any] = request.data
        task = Task.objects.submit(
            kind="train", lane="cpu", owner=request.user, name=data["name"]
        )
        if data["name"] == "half":
            raise Problem("invalid", "Found out late.")
        where = {"Location": f"/tasks/{task.pk}"}
        return Response({"id": str(task.pk), "name": task.name}, 201, headers=where)


class Other(Make):
    pass


class Row(serializers.ModelSerializer[Task]):
    class Meta:
        model = Task
        fields = ["id"]


class Rows(ListAPIView[Task]):
    queryset = Task.objects.all()
    serializer_class = Row


urlpatterns = [
    path("echo", Echo.as_view()),
    path("scoped", Scoped.as_view()),
    path("fail/<name>", Fail.as_view()),
    path("make", Make.as_view()),
    path("other", Other.as_view()),
    path("rows", Rows.as_view()),
]
handler400 = "compass.api.bad_request"
handler404 = "compass.api.not_found"
handler500 = "compass.api.server_error"
