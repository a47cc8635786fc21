"""The edges of REST: who asks, what they may, how pages and errors look."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views import csrf
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from registry import plain
from registry.errors import CATALOGUE, Problem
from registry.models import ApiKey

if TYPE_CHECKING:
    from rest_framework.views import APIView

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
DEEPEST = 64  # levels of a JSON body
JSON_LIKE = re.compile(r"(^|,)\s*application/([a-z0-9.+-]+\+)?json\s*(;|,|$)")
ODD_TEXT = "A text holds a NUL or a lone surrogate."
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
SANE_ID = re.compile(r"[0-9]{1,18}\Z")
CODES: dict[type[Exception], str] = {
    exceptions.ParseError: "malformed",
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "invalid_key",
    exceptions.PermissionDenied: "forbidden",
    PermissionDenied: "forbidden",
    exceptions.NotFound: "not_found",
    Http404: "not_found",
    RequestDataTooBig: "too_large",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "not_acceptable",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "throttled",
    OperationalError: "database_unavailable",
    InterfaceError: "database_unavailable",
}


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            secret = request.headers.get("X-API-Key", "")
        secret = secret.strip()
        if not secret:
            return None
        key = ApiKey.find(secret)
        if key is None:
            raise exceptions.AuthenticationFailed(CATALOGUE["invalid_key"][1] + ".")
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasScope(BasePermission):
    """The view's `scopes` name what each method needs; reading needs `read`."""

    message = CATALOGUE["forbidden"][1] + "."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if isinstance(request.user, AnonymousUser):
            return False
        method = request.method or ""
        default = "read" if method in SAFE_METHODS else "submit"
        scope = getattr(view, "scopes", {}).get(method, default)
        if isinstance(request.auth, ApiKey):
            held = set(request.auth.scopes)
            if not request.user.is_staff:
                held.discard("admin")
            return scope in held or "admin" in held
        return scope != "admin" or request.user.is_staff


class StrictJSONParser(JSONParser):
    """JSON without NaN, NUL or lone surrogates, and an object at the top.

    A view's `texts` name the fields whose odd text is the field's error, not the body's.
    """

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        view = (parser_context or {}).get("view")
        try:
            text = stream.read().decode("utf-8")
            if not text.strip():
                return {}
            value = json.loads(
                text, parse_constant=plain.refuse, parse_float=plain.finite
            )
        except RecursionError:
            raise exceptions.ParseError("The JSON is nested too deep.") from None
        except ValueError as error:
            text = f"The body is not JSON: {plain.why(error)}."
            raise exceptions.ParseError(text) from None
        if not isinstance(value, dict):
            raise exceptions.ParseError("The body must be a JSON object.")
        for name in getattr(view, "texts", ()):
            if isinstance(value.get(name), str) and _is_odd(value[name]):
                raise Problem(
                    "invalid", f"{name}: {ODD_TEXT}", errors={name: [ODD_TEXT]}
                )
        _refuse_odd_text(value)
        return value


class ProblemNegotiation(DefaultContentNegotiation):
    """Errors are JSON of a type of their own: who accepts that alone gets all in JSON."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[Any, str]:
        chosen: tuple[Any, str]
        try:
            chosen = super().select_renderer(request, renderers, format_suffix)
        except exceptions.NotAcceptable:
            accepted = request.headers.get("Accept", "").lower()
            if not JSON_LIKE.search(accepted):
                raise
            chosen = renderers[0], "application/json"
        return chosen


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size_query_param = "limit"
    max_page_size = 500

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor: Cursor | None = super().decode_cursor(request)
        if cursor and cursor.position and not SANE_ID.match(str(cursor.position)):
            raise exceptions.NotFound(self.invalid_cursor_message)
        return cursor

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Any error as problem+json; None for what nobody foresaw, which Django then logs."""
    problem = as_problem(error)
    if problem is None:
        return None
    request = context["request"]
    response = Response(
        problem_body(request, problem), problem.status, content_type=PROBLEM_JSON
    )
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    if (seconds := problem.wait) is not None:
        response["Retry-After"] = str(seconds)
    return response


def as_problem(error: Exception) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, exceptions.ValidationError):
        errors = _by_field(error.detail)
        detail = "; ".join(
            f"{name}: {' '.join(texts)}" for name, texts in errors.items()
        )
        return Problem("invalid", detail, errors=errors)
    for kind, code in CODES.items():
        if isinstance(error, kind):
            detail = CATALOGUE[code][1] + "."
            if isinstance(error, exceptions.APIException):
                detail = str(error.detail)
            wait = 2 if code == "database_unavailable" else getattr(error, "wait", None)
            return Problem(code, detail, retry_after=wait)
    return None


def problem_body(request: Any, problem: Problem) -> dict[str, Any]:
    return {
        "type": f"/api/v1/errors#{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "errors": problem.errors,
        "request_id": getattr(request, "request_id", ""),
    }


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    return plain_problem(request, Problem("not_found", "There is no such address."))


def bad_request(
    request: HttpRequest, exception: Exception | None = None
) -> JsonResponse:
    return plain_problem(request, Problem("malformed", "The request is malformed."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """A page for a form of the pages, a problem for everything else."""
    if request.path.startswith("/admin"):
        return csrf.csrf_failure(request, reason)
    return plain_problem(request, Problem("forbidden", "The CSRF token is missing."))


def server_error(request: HttpRequest) -> JsonResponse:
    text = "Something went wrong here; the log has it under this request id."
    return plain_problem(request, Problem("internal", text))


def plain_problem(request: HttpRequest, problem: Problem) -> JsonResponse:
    return JsonResponse(
        problem_body(request, problem),
        status=problem.status,
        content_type=PROBLEM_JSON,
    )


def _is_odd(text: str) -> bool:
    return "\x00" in text or LONE_SURROGATE.search(text) is not None


def _refuse_odd_text(value: Any, depth: int = 0) -> None:
    """PostgreSQL keeps no NUL, and nothing keeps half a surrogate pair."""
    if depth > DEEPEST:
        raise exceptions.ParseError("The JSON is nested too deep.")
    if isinstance(value, str):
        if _is_odd(value):
            raise exceptions.ParseError(ODD_TEXT)
    elif isinstance(value, dict):
        for name, item in value.items():
            _refuse_odd_text(name, depth + 1)
            _refuse_odd_text(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_odd_text(item, depth + 1)


def _by_field(detail: Any, at: str = "") -> dict[str, list[str]]:
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            place = f"{at}[{name}]" if isinstance(name, int) else f"{at}.{name}"
            if name == "non_field_errors":
                place = at
            found |= _by_field(inner, place.removeprefix("."))
        return found
    if isinstance(detail, list) and any(isinstance(one, dict | list) for one in detail):
        found = {}
        for index, inner in enumerate(detail):
            if inner:
                found |= _by_field(inner, f"{at}[{index}]")
        return found
    texts = detail if isinstance(detail, list) else [detail]
    return {at or "body": [str(text) for text in texts]}
