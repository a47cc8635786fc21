from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from inference import datasets, gateway, loading, predictor
from inference.cache import ModelCache
from registry.addresses import resolve
from registry.errors import Problem
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse
from registry.models import ModelVersion

AT_ONCE = 200  # items sent to the worker in one message
NOT_THERE = {"no_worker", "broker_unavailable"}


class Command(Base):
    help = "Predict items with a model: by an inference worker if one is up, else here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="name, name:3 or name@alias")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--input", action="append", metavar="JSON", help="one item; may be repeated"
        )
        source.add_argument(
            "--file", help="items as .jsonl, .csv or .csv.gz; - is standard input"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        version = resolve(options["model"])
        items = _items(options, version)
        answers = list(self._answers(version, items))
        self._print(version, items, answers, as_json=options["json"])
        failed = sum("error" in answer for answer in answers)
        if failed:
            raise Failed(f"{failed} of {len(items)} items failed.")

    def _answers(self, version: ModelVersion, items: list[Any]) -> Iterator[Any]:
        cache = ModelCache(loading.load, loading.look, capacity=1)
        is_here = False
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            try:
                if not is_here:
                    timeout = float(settings.ENVIRONMENT.predict_timeout)
                    yield from gateway.ask(version, some, timeout=timeout)
                    continue
            except Problem as problem:
                if problem.code not in NOT_THERE:
                    raise
                is_here = True
            with cache.use(version.pk) as (model, facts):
                yield from predictor.answer(model, some, facts)

    def _print(
        self,
        version: ModelVersion,
        items: list[Any],
        answers: list[Any],
        *,
        as_json: bool,
    ) -> None:
        if as_json:
            name, number = version.model.name, version.number
            self.print_json({"model": name, "version": number, "outputs": answers})
            return
        for item, answer in zip(items, answers, strict=True):
            self.stdout.write(f"{_short(item)}  {_shown(answer)}")


def _items(options: dict[str, Any], version: ModelVersion) -> list[Any]:
    if options["input"] is not None:
        return [_parsed(text) for text in options["input"]]
    if options["file"] == "-":
        return [_parsed(line) for line in sys.stdin if line.strip()]
    path = Path(options["file"])
    try:
        items = datasets.read_items(path, path.name)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error}") from None
    return datasets.typed(items, version.signature.get("inputs") or {})


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise WrongUse(f"{text[:60]!r} is no JSON: {error}") from None


def _shown(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"error: {answer['error']['detail']}"
    return "  ".join(f"{name}={_short(value)}" for name, value in answer.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
