"""Serializers that build their fields once for the class, not anew for each request."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from rest_framework import serializers
from rest_framework.fields import empty

Reader = Callable[[Any, Any], Any]


class SharedFields(serializers.Serializer[Any]):
    """All instances read by the same fields, which keep nothing of what they read."""

    def __init__(self, instance: Any = None, data: Any = empty, **kwargs: Any) -> None:
        is_field = instance is None and data is empty
        if is_field or kwargs.keys() - {"context"}:
            super().__init__(instance, data, **kwargs)
            return
        # What the framework sets up for every instance, counting them in a class, by which
        # the interpreter forgets all that it knows of the classes of fields.
        self.__dict__ |= _blank(type(self))
        self.instance, self._context = instance, kwargs.get("context", {})
        if data is not empty:
            self.initial_data = data

    @property
    def fields(self) -> Any:
        return _fields(type(self))


class Shown(SharedFields):
    """Writes rows out by plain functions, made once from the fields.

    A field may be a method field, or name an attribute, also of a row beside (`node.name`);
    where that row or value is None so is the answer.
    """

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {name: read(self, instance) for name, read in _readers(type(self))}


@cache
def _blank(kind: type[SharedFields]) -> dict[str, Any]:
    """The attributes of one that has nothing to read or show."""
    own = ("_args", "_kwargs")
    return {name: one for name, one in vars(kind()).items() if name not in own}


@cache
def _fields(kind: type[SharedFields]) -> Any:
    prototype = kind()
    # Its own property below this class: it builds the fields and keeps them.
    built: Any = super(SharedFields, prototype).fields
    return built


@cache
def _readers(kind: type[Shown]) -> tuple[tuple[str, Reader], ...]:
    fields = _fields(kind).items()
    return tuple((name, _reader(field)) for name, field in fields)


def _reader(field: Any) -> Reader:
    if isinstance(field, serializers.SerializerMethodField):
        name = str(field.method_name)
        return lambda shown, row: getattr(shown, name)(row)
    way, write = list(field.source_attrs), field.to_representation

    def read(shown: Any, row: Any) -> Any:
        for name in way:
            row = getattr(row, name)
            if row is None:
                return None
        return write(row)

    return read
