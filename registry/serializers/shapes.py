"""Shapes of answers that no model stands behind, for the schema."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer, inline_serializer
from rest_framework import serializers


def results(name: str, kind: type[serializers.BaseSerializer[Any]]) -> Any:
    """`{results: [...]}`, the answer of a list without pages."""
    made = inline_serializer(f"{name}Results", {"results": kind(many=True)})
    extend_schema_serializer(many=False)(type(made))  # or a list would hold it
    return made


class ErrorEntry(serializers.Serializer[Any]):
    code = serializers.CharField()
    status = serializers.IntegerField()
    title = serializers.CharField()


class FileEntry(serializers.Serializer[Any]):
    name = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes")


class LogPiece(serializers.Serializer[Any]):
    """A piece of a log; offsets and sizes in bytes."""

    text = serializers.CharField(allow_blank=True)
    offset = serializers.IntegerField()
    next_offset = serializers.IntegerField()
    size = serializers.IntegerField()
    complete = serializers.BooleanField()
    hint = serializers.CharField(required=False, help_text="of an array: where to look")
