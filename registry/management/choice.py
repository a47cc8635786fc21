"""The options by which commands choose tasks: ids, or what the list would show."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from registry import broker, many, scheduler
from registry.errors import Problem
from registry.filters import matching
from registry.management.output import Command, Failed, WrongUse
from registry.models import Task
from registry.states import State

NAMES = ("state", "reason", "kind", "owner", "lane", "tag", "array", "template")
NARROWING = ("state", "reason", "array")
SHOWN = 20  # refusals told one by one


def add_names(parser: ArgumentParser) -> None:
    parser.add_argument("--state", action="append", choices=State.values)
    parser.add_argument("--reason", action="append", help="as tasks shows it")
    parser.add_argument("--kind", help="train, script or predict")
    parser.add_argument("--owner", help="user name")
    parser.add_argument("--lane")
    parser.add_argument("--tag")
    parser.add_argument("--array", help="id of an array, whose elements are meant")
    parser.add_argument("--template", help="what its past runs are compared by")


def named(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked, by the names of the list."""
    return {name: options[name] for name in NAMES if options[name]}


def chosen(rows: Any, asked: Mapping[str, Any]) -> Any:
    """The rows that these names mean. Raises WrongUse."""
    try:
        return matching(rows, asked)
    except Problem as problem:
        raise WrongUse(problem.detail.replace("filter.", "--")) from None


class Many(Command):
    """One order for the tasks of some ids, or for all that the names choose."""

    done = ""  # as in: 3 tasks were DONE
    states: Collection[str] = ()  # those that the names can mean

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tasks", nargs="*", metavar="ID", help="ids of tasks")
        add_names(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")

    def verb(self, options: Mapping[str, Any]) -> Callable[[Task], None]:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        done, refused = list[str](), list[dict[str, str]]()
        for tasks, missing in self._batches(options):
            met, not_met = many.order(tasks, self.verb(options))
            done += met
            refused += missing + not_met
        scheduler.dispatch()
        broker.flush()
        if options["json"]:
            self.print_json({"done": done, "refused": refused})
        else:
            count = len(done)
            text = f"{count} task{' was' if count == 1 else 's were'} {self.done}."
            self.stdout.write(text)
            for one in refused[:SHOWN]:
                self.stderr.write(f"Task {one['id']}: {one['detail']}")
        if refused:
            raise Failed(f"{len(refused)} of {len(done) + len(refused)} were refused.")

    def _batches(
        self, options: Mapping[str, Any]
    ) -> Iterator[tuple[list[Task], list[dict[str, str]]]]:
        rows, asked, ids = Task.objects.all(), named(options), options["tasks"]
        if bool(ids) == any(name in asked for name in NARROWING):
            raise WrongUse("Give ids, or --state, --reason or --array; not both.")
        if ids:
            if wrong := [one for one in ids if not _is_id(one)]:
                raise WrongUse(f"{wrong[0]!r} is not a task's id.")
            yield many.by_ids(rows, ids)
            return
        last, more = 0, True
        while more:
            found = chosen(rows, asked).filter(pk__gt=last)
            tasks, more = many.by_filter(found, self.states)
            last = tasks[-1].pk if tasks else last
            yield tasks, []


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
