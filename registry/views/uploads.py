from __future__ import annotations

import threading
import time
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpResponseBase, QueryDict
from django.urls import path
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from registry import intake, ranges, store, uploads
from registry.errors import Problem
from registry.idempotency import once
from registry.models import Upload
from registry.serializers.uploads import UploadForm, UploadSerializer

LINGER_BYTES = 64 * 1024**2
LINGER_SECONDS = 5.0
_lingering = threading.BoundedSemaphore(4)  # of this process's threads


class TakesFile(APIView):
    """A view whose POST is a file, which alone reads the body, and may answer before all of it."""

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        if request.method == "POST":
            # A session's check for forgery looks into the form; the header is enough.
            request.POST = QueryDict()
        return super().initialize_request(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if self.request.method == "POST":
            source = self.request.META["wsgi.input"]
            # Closed after it was sent: so the answer comes before the body is read.
            response._resource_closers.append(  # type: ignore[attr-defined]
                lambda: _linger(source)
            )
        return response


class UploadFilter(filters.FilterSet):  # type: ignore[misc]
    state = filters.MultipleChoiceFilter(choices=Upload.State.choices)
    q = filters.CharFilter(method="search", help_text="a part of the name or file name")

    class Meta:
        model = Upload
        fields: list[str] = []

    def search(self, rows: QuerySet[Upload], name: str, text: str) -> QuerySet[Upload]:
        return rows.filter(Q(name__icontains=text) | Q(filename__icontains=text))


class AnyType(BaseContentNegotiation):
    """Answers with the file's own type, whatever the client would rather have."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


@extend_schema_view(
    list=extend_schema(summary="Uploads, newest first"),
    retrieve=extend_schema(summary="One upload"),
)
class UploadViewSet(
    TakesFile, ListModelMixin, RetrieveModelMixin, GenericViewSet[Upload]
):
    """Files that users gave: data sets and archives."""

    serializer_class = UploadSerializer
    filterset_class = UploadFilter
    lookup_value_regex = "[0-9]{1,18}"
    queryset = Upload.objects.all()

    def get_queryset(self) -> QuerySet[Upload]:
        return Upload.objects.visible_to(self.request.user).select_related("owner")

    @extend_schema(
        summary="Upload one file",
        description="As a form, or as the bytes themselves with a Content-Disposition.",
        request={
            "multipart/form-data": UploadForm,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        parameters=[
            OpenApiParameter(
                "Content-Disposition",
                location=OpenApiParameter.HEADER,
                description='`attachment; filename="data.csv"`, for bytes alone',
            ),
            OpenApiParameter("name", description="for bytes alone"),
            OpenApiParameter("description", description="for bytes alone"),
        ],
        responses={201: UploadSerializer},
        filters=False,
    )
    def create(self, request: Request) -> Response:
        told = intake.announced(request._request)
        place = store.aside(".upload")
        try:
            with uploads.slot(request.user, told.filename) as upload:
                file = intake.receive(request._request, told, upload, place)

                def make() -> Response:
                    uploads.keep(upload, file)
                    location = f"/api/v1/uploads/{upload.pk}"
                    shown = UploadSerializer(upload).data
                    return Response(shown, 201, headers={"Location": location})

                same = [file.filename, file.sha256, file.name, file.description]
                return once(request, make, body=same)
        finally:
            place.unlink(missing_ok=True)

    @extend_schema(summary="Delete an upload", responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        uploads.delete(self.get_object())
        return Response(status=204)

    @extend_schema(
        summary="The bytes of a sealed upload; one range at a time",
        responses={
            (200, "*/*"): OpenApiTypes.BINARY,
            (206, "*/*"): OpenApiTypes.BINARY,
        },
        filters=False,
    )
    @action(detail=True, content_negotiation_class=AnyType, pagination_class=None)
    def content(self, request: Request, pk: str) -> HttpResponseBase:
        upload = self.get_object()
        if upload.state != Upload.State.SEALED:
            raise Problem("wrong_state", f"The upload is {upload.state}.")
        return ranges.respond(
            request._request,
            uploads.dataset_path(upload),
            filename=upload.filename,
            content_type=upload.content_type,
            etag=upload.sha256,
        )

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, ranges.NoSuchRange):
            response["Content-Range"] = f"bytes */{exc.size}"
        return response


def _linger(source: Any) -> None:
    """Read on for a while after a refusal.

    A connection that is closed while its client still writes is reset, and some clients then
    never read the answer.
    """
    if not _lingering.acquire(blocking=False):
        return
    try:
        left, end = LINGER_BYTES, time.monotonic() + LINGER_SECONDS
        while left > 0 and time.monotonic() < end:
            chunk = source.read(intake.CHUNK)
            if not chunk:
                return
            left -= len(chunk)
    except Exception:
        return  # the client is gone, and so is the reason to linger
    finally:
        _lingering.release()


_all = UploadViewSet.as_view({"get": "list", "post": "create"})
_one = UploadViewSet.as_view({"get": "retrieve", "delete": "destroy"})
uploads_urls = [
    path("uploads", _all, name="upload-list"),
    path("uploads/<int:pk>", _one, name="upload-detail"),
    path(
        "uploads/<int:pk>/content",
        UploadViewSet.as_view(
            {"get": "content"},
            content_negotiation_class=AnyType,
            pagination_class=None,
        ),
        name="upload-content",
    ),
    # The older names
    path("data/datasets", UploadViewSet.as_view({"get": "list"})),
    path("data/datasets/<int:pk>", _one),
    path("data/upload", UploadViewSet.as_view({"post": "create"})),
]
