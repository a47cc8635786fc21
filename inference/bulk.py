"""What a batch is, and what answers its items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from inference import predictor
from inference.cache import Facts, Loaded
from inference.forms import FORMS, PLAIN, Form
from inference.predictor import Encoded
from inference.ranking import Top
from inference.shards import Files, size_for
from inference.sinks import Sink, open_sink
from inference.sources import Source, open_source
from inference.texts import ID, Typed
from registry.errors import Problem
from registry.models import ModelVersion, Task

Answers = list[dict[str, Any]]


@dataclass
class Batch:
    """What a task's parameters say, made ready to be read and written."""

    params: Mapping[str, Any]
    source: Source
    sink: Sink
    files: Files
    form: Form
    typed: Typed
    top: Top | None

    @classmethod
    def of(cls, task: Task) -> Batch:
        """Raises BadData and OSError if the data set cannot be read."""
        params = task.params
        rows = ModelVersion.objects.filter(pk=params["version_id"])
        signature = rows.values_list("signature", flat=True).first() or {}
        schema = signature.get("inputs") or {}
        form = FORMS[params["form"]]
        source = open_source(task.pk, params, schema)
        sink = open_sink(source, form, params, signature.get("outputs") or {})
        files, top = Files(task.pk, sink.suffix), Top.of(params)
        return cls(params, source, sink, files, form, Typed(schema), top)

    @property
    def count(self) -> int:
        return int(self.params["count"])

    @property
    def size(self) -> int:
        """Items of a shard."""
        return int(self.params.get("shard") or size_for(self.count))

    @property
    def shards(self) -> int:
        return -(-self.count // self.size)

    def inputs(self, items: list[Any]) -> list[Any]:
        """The items as the model is given them."""
        if self.form is not PLAIN:
            items = [self.form.as_input(item) for item in items]
        if not self.typed.keeps_id:
            items = [self.typed.for_model(item) for item in items]
        return items

    def kept(self, items: list[Any]) -> list[Any]:
        """What results need of items beside their records: of plain ones the id, or why one
        cannot be read."""
        if self.form is not PLAIN:
            return items
        return [
            None if type(one) is dict and ID not in one else _kept(one) for one in items
        ]


class Answerer(Protocol):
    """Answers items in two halves, of which the second runs in a thread of its own."""

    def encode(self, items: list[Any]) -> Any: ...

    def predict(self, encoded: list[Any]) -> Answers:
        """The answers to some that were encoded, one behind the other."""


@dataclass(frozen=True)
class ByModel:
    """What the model answers to items as their source gives them."""

    batch: Batch
    model: Loaded
    facts: Facts

    def encode(self, items: list[Any]) -> Encoded:
        unread = [(n, one) for n, one in enumerate(items) if isinstance(one, Problem)]
        if unread:
            items = [one for one in items if not isinstance(one, Problem)]
        found = predictor.encode(self.model, self.batch.inputs(items), self.facts)
        if not unread:
            return found
        taken = {n for n, _ in unread}
        free = [n for n in range(len(items) + len(unread)) if n not in taken]
        bad = [*unread, *((free[n], problem) for n, problem in found.bad)]
        return Encoded(found.good, sorted(bad, key=itemgetter(0)))

    def predict(self, encoded: list[Encoded]) -> Answers:
        size = self.facts.bulk or self.facts.batch or predictor.BATCH
        some = predictor.together(encoded)
        return predictor.predict(self.model, some, self.facts, batch=size)


@dataclass(frozen=True)
class Same:
    """One answer to all."""

    answer: dict[str, Any]

    def encode(self, items: list[Any]) -> int:
        return len(items)

    def predict(self, encoded: list[int]) -> Answers:
        return [self.answer] * sum(encoded)


def _kept(item: Any) -> Any:
    if isinstance(item, Problem):
        return item
    return {ID: item[ID]} if type(item) is dict else None
