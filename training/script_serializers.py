from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from registry import jail
from registry.serializers.submission import SubmitRequest
from registry.serializers.tasks import ResourcesSerializer
from training.scripts.environment import OURS

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
SET_BY_COMPASS = "CUDA_VISIBLE_DEVICES"
MOST_NAMES = 1000
LONGEST_VALUE = 100_000  # bytes; the kernel takes 128 KiB
LARGEST_ENVIRONMENT = 500_000  # bytes of all names and values
MOST_FILES = 1000


class EnvironmentField(serializers.DictField):
    """Names and values for the script's environment."""

    child = serializers.CharField(
        allow_blank=True, trim_whitespace=False, max_length=LONGEST_VALUE
    )

    def run_validation(self, data: Any = serializers.empty) -> Any:
        found = super().run_validation(data)
        if isinstance(found, Mapping):
            self._check(found)
        return found

    def _check(self, found: Mapping[str, str]) -> None:
        sizes = {name: len(value.encode()) for name, value in found.items()}
        wrong = {
            name[:100]: [text]
            for name, size in sizes.items()
            if (text := wrong_variable(name) or wrong_size(size))
        }
        if wrong:
            raise serializers.ValidationError(wrong)
        total = sum(len(name) + size for name, size in sizes.items())
        if len(found) > MOST_NAMES or total > LARGEST_ENVIRONMENT:
            text = f"at most {MOST_NAMES} names and {LARGEST_ENVIRONMENT:,} bytes"
            raise serializers.ValidationError(text)


class FilesField(serializers.DictField):
    """Ids of uploads by the names that the script finds them under."""

    child = serializers.CharField(max_length=100)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        found = super().run_validation(data)
        if isinstance(found, Mapping):
            if len(found) > MOST_FILES:
                raise serializers.ValidationError(f"at most {MOST_FILES} files")
            wrong = {name[:100]: [text] for name in found if (text := jail.wrong(name))}
            if wrong:
                raise serializers.ValidationError(wrong)
        return found


class ScriptRequest(SubmitRequest):
    """What `POST /scripts` takes."""

    script = serializers.CharField(
        trim_whitespace=False, help_text="what /bin/bash runs; at most 16 MiB"
    )
    env = EnvironmentField(default=dict)
    lane = serializers.ChoiceField(choices=["cpu", "gpu", "auto"], default="auto")
    resources = ResourcesSerializer(required=False)
    max_retries = serializers.IntegerField(
        min_value=0, max_value=20, default=0, help_text="runs again that are safe"
    )
    array = serializers.CharField(
        max_length=20_000, required=False, help_text="like 0-99%4 or 1,3,5-9:2"
    )
    files = FilesField(default=dict)


def wrong_size(size: int) -> str:
    """What is wrong with a value of so many bytes; empty if it is good."""
    return f"at most {LONGEST_VALUE:,} bytes" if size > LONGEST_VALUE else ""


def wrong_variable(name: str) -> str:
    """What is wrong with the name of a variable; empty if it is good."""
    if not NAME.match(name) or len(name) > 200:
        return "must be letters, digits and _, and not begin with a digit"
    if name.startswith(OURS) or name == SET_BY_COMPASS:
        return "is set by Compass"
    return ""
