from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from inference import datasets, gateway, loading, predictor, routes
from inference.cache import ModelCache
from inference.fallback import MOST, first_served, listed
from inference.given import SIDES
from inference.routes import Found
from registry.addresses import parse
from registry.errors import Problem
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse

AT_ONCE = 200  # items sent to the worker in one message
NOT_THERE = {"no_worker", "broker_unavailable"}


class Command(Base):
    help = "Predict items with a model: by an inference worker if one is up, else here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "model",
            nargs="+",
            help="name, name:3 or name@alias; of several, the first that can be served",
        )
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument(
            "--input", action="append", metavar="JSON", help="one item; may be repeated"
        )
        source.add_argument(
            "--file",
            help="items as .csv, .csv.gz, .jsonl, .parquet, .smi or .fasta; "
            "- is standard input",
        )
        parser.add_argument("--protein", help="that of every item of the file")
        parser.add_argument("--ligand", help="that of every item of the file")
        parser.add_argument(
            "--key", help="the same key, the same side of an alias's split"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        addresses: list[str] = options["model"]
        if len(addresses) > MOST:
            raise WrongUse(f"At most {MOST} models can be named.")
        for address in addresses:
            parse(address)
        read, common = _items(options), _common(options)

        def serve(address: str, _: float) -> tuple[Found, list[Any], list[Any]]:
            found = routes.find_for(address, options["key"])
            items = _typed(read, found, common)
            return found, items, list(self._answers(found, items))

        (found, items, answers), fell_back = first_served(listed(addresses), serve)
        about: dict[str, Any] = {"model": found.model, "version": found.number}
        if len(addresses) > 1:
            about["fell_back"] = fell_back
        self._print(about, items, answers, as_json=options["json"])
        failed = sum("error" in answer for answer in answers)
        if failed:
            raise Failed(f"{failed} of {len(items)} items failed.")

    def _answers(self, found: Found, items: list[Any]) -> Iterator[Any]:
        cache = ModelCache(loading.load, loading.look, capacity=1)
        is_here = False
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            try:
                if not is_here:
                    timeout = float(settings.ENVIRONMENT.predict_timeout)
                    yield from gateway.ask(found, some, timeout=timeout)
                    continue
            except Problem as problem:
                if problem.code not in NOT_THERE:
                    raise
                is_here = True
            with cache.use(found.version) as (model, facts):
                yield from predictor.answer(model, some, facts)

    def _print(
        self,
        about: dict[str, Any],
        items: list[Any],
        answers: list[Any],
        *,
        as_json: bool,
    ) -> None:
        if as_json:
            self.print_json({**about, "outputs": answers})
            return
        for one in about.get("fell_back", ()):
            self.stderr.write(f"{one['model']} was passed over: {one['detail']}")
        for item, answer in zip(items, answers, strict=True):
            self.stdout.write(f"{_short(item)}  {_shown(answer)}")


def _items(options: dict[str, Any]) -> list[Any]:
    if options["input"] is not None:
        return [_parsed(text) for text in options["input"]]
    if options["file"] == "-":
        items = [_parsed(line) for line in sys.stdin if line.strip()]
        if not items:
            raise WrongUse("Standard input has no items.")
        return items
    path = Path(options["file"])
    try:
        return datasets.read_items(path, path.name)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error}") from None


def _common(options: dict[str, Any]) -> dict[str, str]:
    """What every item of a file has besides."""
    common = {side: options[side] for side in SIDES if options[side] is not None}
    if common and options["file"] in (None, "-"):
        raise WrongUse(f"--{next(iter(common))} goes with a file only.")
    return common


def _typed(items: list[Any], found: Found, common: Mapping[str, str]) -> list[Any]:
    """The items of a file as the model takes them: with numbers, and what all have."""
    if not isinstance(items, datasets.Items):
        return items
    facts = loading.look(found.version)
    return datasets.typed(items, {} if facts is None else facts.inputs, common)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WrongUse(f"{text[:60]!r} is no JSON: {error}") from None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _shown(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"error: {answer['error']['detail']}"
    return "  ".join(f"{name}={_short(value)}" for name, value in answer.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
