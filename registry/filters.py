"""The names by which tasks are found: of the list, of bulk requests and of commands."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import BooleanField, CharField, F, Func, Q, Value
from django.http import QueryDict
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field

from registry.errors import Problem
from registry.kinds import LANES
from registry.models import Dependency, Node, Task
from registry.states import State

MOST = 100  # values of one name
# Ids by which two tasks may stand in another order than their moments of creation: a submit
# takes its moment before its id, and the elements of an array that of their head.
OUT_OF_ORDER = 50_000
OF_ELEMENTS = ("array", "elements", "node")  # names that show the elements of arrays


class Listed(forms.SelectMultiple):
    """Values that come by repeating the name, by commas, or both."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        given = super().value_from_datadict(data, files, name) or []
        return [part.strip() for text in given for part in text.split(",")]


class Choices(filters.MultipleChoiceFilter):  # type: ignore[misc]
    """One of the known values, or several."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=Listed, distinct=False, **options)

    def filter(self, rows: Any, value: list[str]) -> Any:
        """By one condition that an index answers, and never with DISTINCT: no row comes twice."""
        if not value:
            return rows
        names = {name for name in value if name != self.null_value}
        keys = self.keys(sorted(names))
        wanted = Q(**{f"{self.field_name}__in": keys})
        if len(keys) == 1:
            wanted = Q(**{self.field_name: keys[0]})
        if len(names) < len(set(value)):
            wanted |= Q(**{self.field_name: None})
        return rows.filter(wanted)

    def keys(self, names: list[str]) -> list[Any]:
        """What stands in the column for these names."""
        return names


class TextsField(forms.MultipleChoiceField):
    def validate(self, value: list[str]) -> None:
        if len(value) > MOST:
            raise forms.ValidationError(f"At most {MOST} values.")

    def clean(self, value: Any) -> list[str]:
        return [text for text in super().clean(value) if text]


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class Texts(Choices):
    """Any value, or several."""

    field_class = TextsField


class Named(Texts):
    """By the names of other rows, looked up first: a plan for a known key knows how many have it."""

    def __init__(self, model: Any, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._of, self._by = model, name

    def keys(self, names: list[str]) -> list[Any]:
        found = self._of.objects.filter(**{f"{self._by}__in": names})
        return list(found.order_by().values_list("pk", flat=True))


def _check_id(text: str) -> None:
    if not (text.isascii() and text.isdigit()):
        raise forms.ValidationError("must be a task's id")


class Id(filters.CharFilter):  # type: ignore[misc]
    """The id of a task; a row that cannot be is an error, not an empty list."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=18, **options)
        self.extra["validators"] = [_check_id]


class TaskFilter(filters.FilterSet):  # type: ignore[misc]
    kind = Texts()
    state = Choices(choices=State.choices)
    owner = Named(User, "username")
    node = Named(Node, "name")
    lane = Choices(choices=[(lane, lane) for lane in LANES])
    reason = Texts()
    template = Texts()
    tag = filters.CharFilter(method="with_tag")
    array = Id(field_name="array_id", help_text="the elements of this array")
    elements = filters.BooleanFilter(
        method="as_it_is", help_text="show the elements of arrays as well"
    )
    depends_on = Id(method="depending_on", help_text="those that depend on this task")
    created_after = filters.IsoDateTimeFilter(method="since")
    q = filters.CharFilter(field_name="name", lookup_expr="icontains")

    def since(self, rows: Any, name: str, moment: datetime.datetime) -> Any:
        """Those created after it; by their ids as well, in whose order lists are read."""
        after = Task.objects.filter(created_at__gt=moment).order_by("created_at", "pk")
        first = after.values_list("pk", flat=True).first()
        if first is None:
            return rows.none()
        return rows.filter(created_at__gt=moment, pk__gt=first - OUT_OF_ORDER)

    class Meta:
        model = Task
        fields: list[str] = []

    @property
    def shows_elements(self) -> bool:
        """Whether elements of arrays are among what was asked for; heads always are."""
        return any(self.form.cleaned_data.get(name) for name in OF_ELEMENTS)

    def as_it_is(self, rows: Any, name: str, value: Any) -> Any:
        return rows

    def depending_on(self, rows: Any, name: str, number: str) -> Any:
        those = Dependency.objects.filter(on_number=number)
        return rows.filter(pk__in=those.order_by().values("task"))

    def with_tag(self, rows: Any, name: str, value: str) -> Any:
        if connection.vendor == "postgresql":
            return rows.filter(tags__contains=[value])
        return rows.filter(
            Func(
                F("tags"),
                Value(value, output_field=CharField()),
                template="EXISTS (SELECT 1 FROM json_each(%(expressions)s)",
                arg_joiner=") AS tag WHERE tag.value = ",
                output_field=BooleanField(),
            )
        )


def matching(rows: Any, asked: Mapping[str, Any]) -> Any:
    """The rows that the list would show for these names and values.

    Raises Problem `invalid` with the fields as `filter.NAME`.
    """
    query, known = QueryDict(mutable=True), TaskFilter.base_filters
    errors: dict[str, list[str]] = {}
    for name, value in asked.items():
        values = value if isinstance(value, list) else [value]
        if name not in known:
            text = f"unknown; there are {', '.join(sorted(known))}"
            errors[f"filter.{name[:60]}"] = [text]
        elif not all(isinstance(one, str | int) for one in values):
            errors[f"filter.{name}"] = ["must be a text or a list of texts"]
        else:
            query.setlist(name, [_text(one) for one in values])
    found = TaskFilter(query, rows)
    if not errors and not found.form.is_valid():
        errors = {
            f"filter.{name}": [str(text) for text in texts]
            for name, texts in found.form.errors.items()
        }
    if errors:
        detail = "; ".join(f"{name}: {' '.join(t)}" for name, t in errors.items())
        raise Problem("invalid", detail, errors=errors)
    return found.qs if found.shows_elements else found.qs.filter(array=None)


def _text(value: str | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
