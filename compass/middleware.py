from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from compass.api import plain_problem
from inference import traffic
from registry.errors import Problem

SANE = re.compile(r"[A-Za-z0-9._:-]{1,100}\Z")


class RequestId:
    """Give every request an id, the caller's own if it is sane, and every answer the same."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        theirs = request.headers.get("X-Request-ID", "")
        request.request_id = theirs if SANE.match(theirs) else uuid.uuid4().hex  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class Counted:
    """Count every answer for `/metrics`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.monotonic()
        response = self.get_response(request)
        traffic.note(time.monotonic() - began, response.status_code, traffic.REST)
        return response


class RefuseNul:
    """No NUL of an address or a cookie reaches a view: PostgreSQL keeps none, and Django fails."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\x00" in request.path or "%00" in query:
            where = "address"
        elif any("\x00" in value for value in request.COOKIES.values()):
            where = "cookie"
        else:
            return self.get_response(request)
        return plain_problem(request, Problem("malformed", f"The {where} holds a NUL."))
