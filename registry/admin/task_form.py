from __future__ import annotations

from typing import Any

from django import forms

from registry.models import Task
from registry.serializers.tasks import TaskChange


class Lines(forms.Field):
    """A list of texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 3})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        lines = (line.strip() for line in (value or "").splitlines())
        return [line for line in lines if line]


class TaskForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a user may change of a task, by the rules of the REST route."""

    tags = Lines(required=False, help_text="One a line.")

    class Meta:
        model = Task
        fields = ["name", "description", "priority", "tags"]

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = super().clean() or self.cleaned_data
        changes = {name: asked[name] for name in self.changed_data if name in asked}
        check = TaskChange(data=changes)
        if not check.is_valid():
            for name, errors in check.errors.items():
                self.add_error(name, _sentences(errors))
        return asked


def _sentences(errors: Any) -> list[str]:
    """The texts of one field's errors, those of a list's items too."""
    if isinstance(errors, dict):
        return [text for inner in errors.values() for text in _sentences(inner)]
    return [str(error) for error in errors]
