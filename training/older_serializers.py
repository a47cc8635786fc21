"""The older scheduler's requests and answers: lenient in what comes, strict in what goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry import jail
from training import older_words
from training.script_serializers import EnvironmentField, wrong_variable
from training.scripts.environment import OURS

GPUS = re.compile(r"(?:(?:gres[/:])?gpu[:=])?(?:[a-z][\w.-]*[:=])?(\d{1,3})\Z", re.I)


NUMBER_OR_TEXT = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
NUMBER_TEXT_OR_NULL = {**NUMBER_OR_TEXT, "nullable": True}


@extend_schema_field(NUMBER_OR_TEXT)
class CountField(serializers.Field[int, Any, int, Any]):
    """A whole number, also as text."""

    def __init__(self, at_most: int = 4096, **options: Any) -> None:
        self.at_most = at_most
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> int:
        text = str(data).strip()
        if isinstance(data, bool) or not re.fullmatch(r"[0-9]{1,9}", text):
            raise serializers.ValidationError("must be a whole number")
        if not 1 <= int(text) <= self.at_most:
            raise serializers.ValidationError(f"must be from 1 to {self.at_most}")
        return int(text)

    def to_representation(self, value: int) -> int:
        return value


@extend_schema_field(NUMBER_TEXT_OR_NULL)
class WordField(serializers.Field[Any, Any, Any, Any]):
    """A text, or a number that stands for one, as `read` understands it."""

    def __init__(self, read: Callable[[str], Any], **options: Any) -> None:
        self.read = read
        super().__init__(allow_null=True, **options)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            raise serializers.ValidationError("must be a text")
        try:
            return self.read(str(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": "array", "items": {"type": "string"}},
            {"type": "string"},
        ]
    }
)
class VariablesField(EnvironmentField):
    """An object, a list of NAME=VALUE, or a text of them; what Compass itself sets is left out."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is serializers.empty:
            return super().run_validation(data)
        try:
            found = older_words.variables(data)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return super().run_validation(
            {
                name: value
                for name, value in found.items()
                if not name.startswith(OURS)
                and wrong_variable(name) != "is set by Compass"
            }
        )


class OutputField(serializers.CharField):
    """A file inside the task's directory; %j, %A, %a, %x and %u stand for words."""

    def to_internal_value(self, data: Any) -> str:
        name: str = super().to_internal_value(data)
        name = name.removeprefix("./")
        if text := jail.wrong(name) if name else "":
            raise serializers.ValidationError(text)
        return name


def _gpus(text: str) -> int:
    match = GPUS.match(text.strip())
    if match is None or int(match[1]) > 64:
        raise ValueError("must be like 2 or gpu:2, and 64 at most")
    return int(match[1])


class OlderJob(serializers.Serializer[Any]):
    """The older scheduler's words for a job; null is as good as left out.

    Those it does not know are passed over.
    """

    name = serializers.CharField(max_length=200, allow_blank=True, default="")
    account = serializers.CharField(
        max_length=200, allow_blank=True, allow_null=True, default=""
    )
    partition = serializers.CharField(
        max_length=100, allow_blank=True, allow_null=True, default=""
    )
    environment = VariablesField(default=dict)
    current_working_directory = serializers.CharField(
        max_length=4096, allow_blank=True, allow_null=True, default=""
    )
    standard_output = OutputField(allow_blank=True, allow_null=True, default="")
    standard_error = OutputField(allow_blank=True, allow_null=True, default="")
    ntasks_per_node = CountField(default=1)
    cpus_per_task = CountField(default=1)
    memory_per_node = WordField(older_words.memory, default=0)
    time_limit = WordField(older_words.seconds, default=None)
    gpus = WordField(_gpus, default=0)
    exclusive = serializers.BooleanField(default=False)
    nodes = CountField(default=1, at_most=1)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value is not None}
        return super().to_internal_value(data)


class OlderSubmission(serializers.Serializer[Any]):
    """`{job, script}`; the script may also stand in the job."""

    job = OlderJob(required=False)
    script = serializers.CharField(trim_whitespace=False)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value is not None}
            job = data.get("job", {})
            inner = job.get("script") if isinstance(job, dict) else None
            data = {"job": {}, **({"script": inner} if inner else {}), **data}
        return super().to_internal_value(data)


STATE = "PENDING, RUNNING, COMPLETED, FAILED or CANCELLED"


class SubmittedShape(serializers.Serializer[Any]):
    job_id = serializers.CharField()


class TimeShape(serializers.Serializer[Any]):
    """Times in UTC; `elapsed` and `limit` in seconds."""

    submit = serializers.DateTimeField()
    start = serializers.DateTimeField(allow_null=True)
    end = serializers.DateTimeField(allow_null=True)
    eligible = serializers.DateTimeField(allow_null=True)
    elapsed = serializers.IntegerField()
    limit = serializers.IntegerField(allow_null=True)


class LogShape(serializers.Serializer[Any]):
    """The last 64 KiB of each."""

    stdout = serializers.CharField()
    stderr = serializers.CharField()


class DetailShape(serializers.Serializer[Any]):
    job_name = serializers.CharField()
    user = serializers.CharField()
    partition = serializers.CharField()
    allocated_cpus = serializers.IntegerField()
    allocated_nodes = serializers.IntegerField()
    node_list = serializers.ListField(child=serializers.CharField())
    exit_code = serializers.IntegerField(
        allow_null=True, help_text="128 and the signal's number, if one ended it"
    )
    work_dir = serializers.CharField()
    account = serializers.CharField()


class JobShape(serializers.Serializer[Any]):
    """A job as the older scheduler showed it."""

    job_id = serializers.CharField()
    state = serializers.CharField(help_text=STATE)
    error_msg = serializers.CharField()
    time = TimeShape()
    job_log = LogShape()
    detail = DetailShape()


class CancelledShape(serializers.Serializer[Any]):
    job_id = serializers.CharField()
    state = serializers.CharField(help_text=STATE)
