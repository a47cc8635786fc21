from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from registry import imports, intake, model_files, origin, store, uploads
from registry.errors import Problem
from registry.idempotency import once
from registry.models import ModelVersion
from registry.serializers.models import VersionSerializer
from registry.serializers.uploads import UploadForm
from registry.tarball import Tarball
from registry.views.models import Models, shown_versions, version_of
from registry.views.uploads import TakesFile
from registry.wanted import Wanted

MODELS = Wanted(
    lambda: settings.ENVIRONMENT.model_limit,
    lambda filename: None,
    model_files.check_head,
)


class ModelsAndImport(TakesFile, Models):
    scopes = {"POST": "registry"}

    @extend_schema(
        operation_id="models_import",
        summary="Import a model",
        description="An archive with model.safetensors and config.json, as a download gives it, or "
        "an ONNX file; as a form, or as the bytes themselves with a Content-Disposition.",
        request={
            "multipart/form-data": UploadForm,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        parameters=[
            OpenApiParameter(
                "Content-Disposition",
                location=OpenApiParameter.HEADER,
                description='`attachment; filename="model.tar"`, for bytes alone',
            ),
            OpenApiParameter(
                "name",
                description="of the model; that of the exported one if not given",
            ),
            OpenApiParameter("description", description="of a new model"),
            OpenApiParameter("Idempotency-Key", str, "header"),
        ],
        responses={201: VersionSerializer},
        filters=False,
    )
    def post(self, request: Request) -> Response:
        told = intake.announced(request._request, MODELS)
        place = store.aside(".import")
        try:
            with uploads.slot(request.user, told.filename, leaves_record=False) as row:
                file = intake.receive(request._request, told, row, place, wanted=MODELS)
            name = imports.name_of(file.asked_name, place)
            ready = imports.prepare(place, file.filename, file.sha256)

            def make() -> Response:
                version = imports.register(ready, name, request.user, file.description)
                shown = shown_versions().get(pk=version.pk)
                where = f"/api/v1/models/{name}/versions/{version.number}"
                body = VersionSerializer(shown).data
                return Response(body, 201, headers={"Location": where})

            same = [file.filename, file.sha256, name, file.description]
            return once(request, make, body=same)
        finally:
            place.unlink(missing_ok=True)


class Download(GenericAPIView[ModelVersion]):
    """The version's files as one tar archive, which may be imported elsewhere."""

    queryset = ModelVersion.objects.all()

    @extend_schema(
        operation_id="models_versions_download",
        responses={(200, "application/x-tar"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, name: str, number: int) -> StreamingHttpResponse:
        version = version_of(name, number)
        label = f"{version.model.name}-{version.number}"
        archive = archive_of(version)
        response = StreamingHttpResponse(archive, content_type="application/x-tar")
        response["Content-Length"] = str(archive.size)
        response["Content-Disposition"] = f'attachment; filename="{label}.tar"'
        response["ETag"] = f'"{version.digest}"'
        return response


def archive_of(version: ModelVersion) -> Tarball:
    """The archive of a version. Raises Problem `model_unavailable`."""
    label = f"{version.model.name}-{version.number}"
    directory = store.model_path(version.digest)
    try:
        archive = Tarball(directory, label, origin.comment(version))
        if store.directory_digest(directory) == version.digest:
            return archive
        archive.close()
        text = f"The files of {version} are not those that were registered."
    except OSError:
        text = f"The files of {version} cannot be read."
    raise Problem("model_unavailable", text)


model_files_urls: list[Any] = [
    path("models", ModelsAndImport.as_view()),
    path("models/<str:name>/versions/<int:number>/download", Download.as_view()),
]
