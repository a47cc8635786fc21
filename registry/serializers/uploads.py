from __future__ import annotations

from rest_framework import serializers

from registry.models import Upload


class UploadSerializer(serializers.ModelSerializer[Upload]):
    """An upload as every route shows it; sizes in bytes."""

    id = serializers.CharField(source="pk", read_only=True)
    owner = serializers.CharField(source="owner.username", read_only=True)
    columns = serializers.ListField(child=serializers.CharField(), read_only=True)
    preview = serializers.ListField(
        child=serializers.DictField(),
        read_only=True,
        help_text="the first 5 rows, with long cells cut",
    )

    class Meta:
        model = Upload
        fields = [
            "id",
            "name",
            "description",
            "filename",
            "size",
            "received",
            "sha256",
            "content_type",
            "state",
            "reason",
            "message",
            "file_count",
            "rows",
            "columns",
            "preview",
            "created_at",
            "expires_at",
            "owner",
        ]
        read_only_fields = fields


class UploadForm(serializers.Serializer[Upload]):
    """The parts of a form that uploads one file."""

    file = serializers.FileField(help_text="the file, with its name")
    name = serializers.CharField(
        required=False, max_length=200, help_text="default: the file's name"
    )
    description = serializers.CharField(required=False, max_length=10_000)
