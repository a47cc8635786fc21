"""Filters of lists that make no query over the list itself to find their choices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest

from registry.models import Node


class Among(admin.SimpleListFilter):
    """Rows whose field has the chosen one of its known values."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        if value not in {str(choice) for choice, _ in self.lookup_choices}:
            raise IncorrectLookupParameters(f"{self.parameter_name} {value!r}")
        return queryset.filter(**{self.parameter_name or "": value})


def among(field: str, values: Iterable[str]) -> type[Among]:
    """A filter of the field by a fixed set of values."""
    choices = [(str(value), str(value).replace("_", " ")) for value in values]

    class Fixed(Among):
        title = field.replace("_", " ")
        parameter_name = field

        def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
            return choices

    return Fixed


class OnNode(Among):
    title = "node"
    parameter_name = "node"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return list(Node.objects.values_list("pk", "name"))


def numbered(title_: str, parameter: str) -> type[Among]:
    """Rows of one task, reached by links; the choice is the task that was asked for."""

    class Numbered(Among):
        title = title_
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
            value = self.value() or ""
            if not value:
                return []
            return [(value, f"task {value}")] if is_number(value) else [("", "")]

    return Numbered


OfTask = numbered("task", "task")
OfArray = numbered("array", "array")


class Elements(admin.SimpleListFilter):
    """The elements of arrays stand in the list only when asked for, or searched."""

    title = "elements of arrays"
    parameter_name = "elements"
    shown_with = ("q", "array", "node")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        self.asked = any(request.GET.get(name) for name in self.shown_with)
        return [("shown", "shown")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value not in (None, "shown"):
            raise IncorrectLookupParameters(f"{self.parameter_name} {value!r}")
        return queryset if value or self.asked else queryset.filter(array=None)


def is_number(text: str) -> bool:
    """Whether it is a whole number that every database can hold."""
    return text.isascii() and text.isdigit() and len(text) <= 18
