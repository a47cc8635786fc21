from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from registry import broker, logs
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse
from registry.models import Task
from registry.scheduler import dispatch
from registry.states import FINAL, State
from training import older_words
from training.script_serializers import ScriptRequest
from training.script_submission import submit
from training.script_text import MOST

LOOK_EVERY = 0.25  # seconds
CONDITIONS = {"ok": "afterok", "any": "afterany", "notok": "afternotok"}


class Command(Base):
    help = "Queue a script of bash, from a file or the standard input."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "script", nargs="?", default="-", help="a file, or - (default)"
        )
        parser.add_argument("--name", default="")
        parser.add_argument("--cpus", type=int)
        parser.add_argument("--memory", help="like 4G, 512M or 1024 for megabytes")
        parser.add_argument("--gpus", type=int)
        parser.add_argument("--lane", default="auto", choices=["cpu", "gpu", "auto"])
        parser.add_argument("--time", help="minutes, H:MM, H:MM:SS or D-HH:MM:SS")
        parser.add_argument("--warn-after", help="the same, until SIGUSR1 warns it")
        parser.add_argument("--array", help="like 0-99%%4 or 1,3,5-9:2")
        parser.add_argument(
            "--after", action="append", default=[], metavar="[ok:]ID[,ID]",
            help="begin after tasks that ended well (ok), in any way (any), or badly (notok)",
        )  # fmt: skip
        parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
        parser.add_argument(
            "--file", action="append", default=[], metavar="NAME=UPLOAD",
            help="an upload that the script finds under that name",
        )  # fmt: skip
        parser.add_argument("--priority", type=int, default=0)
        parser.add_argument("--max-retries", type=int, default=0)
        parser.add_argument("--tag", action="append", default=[])
        parser.add_argument("--user", default="admin", help="whose task it is")
        parser.add_argument(
            "--wait", action="store_true", help="print its output, and fail if it does"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise WrongUse(f"There is no user {options['user']!r}.")
        asked = ScriptRequest(data=_request(options))
        if not asked.is_valid():
            raise WrongUse("; ".join(_sentences(asked.errors)))
        task = submit(user, asked.validated_data)
        dispatch()
        broker.flush()
        if options["wait"]:
            self._follow(task, quiet=options["json"])
        task.refresh_from_db()
        self._conclude(task, options)

    def _follow(self, task: Task, *, quiet: bool) -> None:
        offset = 0
        while True:
            is_over = task.state in FINAL
            piece = logs.read(task, {"offset": str(offset), "limit": str(logs.MOST)})
            if not quiet:
                self.stdout.write(piece["text"], ending="")
                self.stdout.flush()
            is_all = piece["next_offset"] >= piece["size"]
            offset = piece["next_offset"]
            if is_over and is_all:
                return
            if is_all:
                time.sleep(LOOK_EVERY)
            task.refresh_from_db()

    def _conclude(self, task: Task, options: dict[str, Any]) -> None:
        if options["json"]:
            words = {"id": str(task.pk), "state": task.state, "result": task.result}
            self.print_json({**words, "reason": task.reason, "message": task.message})
        elif not options["wait"]:
            what = f" with {task.array_size} elements" if task.is_head else ""
            self.stdout.write(f"Task {task.pk}{what} is {task.state}.")
        if options["wait"] and task.state != State.COMPLETED:
            raise Failed(f"Task {task.pk} is {task.state}. {task.message} {task.hint}")


def _request(options: dict[str, Any]) -> dict[str, Any]:
    resources = {name: options[name] for name in ("cpus", "gpus")}
    if options["memory"] is not None:
        resources["memory"] = _read("--memory", older_words.memory, options["memory"])
    request: dict[str, Any] = {
        "script": _text(options["script"]),
        "name": options["name"],
        "lane": options["lane"],
        "resources": {k: v for k, v in resources.items() if v is not None},
        "env": _pairs("--env", options["env"]),
        "files": _pairs("--file", options["file"]),
        "priority": options["priority"],
        "max_retries": options["max_retries"],
        "tags": options["tag"],
        "depends_on": _after(options["after"]),
    }
    if options["array"] is not None:
        request["array"] = options["array"]
    for name, option in (("time_limit", "time"), ("soft_time_limit", "warn_after")):
        if (text := options[option]) is not None:
            flag = f"--{option.replace('_', '-')}"
            if (limit := _read(flag, older_words.seconds, text)) is not None:
                request[name] = limit
    return request


def _text(source: str) -> str:
    """The script. Raises WrongUse if it cannot be read as text."""
    try:
        if source == "-":
            content = sys.stdin.buffer.read(MOST + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(MOST + 1)
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise WrongUse(f"{source} is not text in UTF-8.") from None
    except OSError as error:
        raise WrongUse(f"{source} cannot be read: {error.strerror}.") from None


def _pairs(flag: str, given: list[str]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WrongUse(f"{flag}: {pair!r} is not NAME=VALUE.")
        found[name] = value
    return found


def _after(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in given:
        word, colon, ids = one.rpartition(":")
        condition = CONDITIONS.get(word.removeprefix("after") if colon else "ok")
        if condition is None:
            raise WrongUse(f"--after: {one!r} is not ok:ID, any:ID or notok:ID.")
        found.setdefault(condition, []).extend(ids.split(","))
    return found


def _read(flag: str, read: Any, text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise WrongUse(f"{flag}: {text!r} {error}.") from None


def _sentences(errors: Any, at: str = "") -> list[str]:
    if isinstance(errors, dict):
        return [
            text
            for name, inner in errors.items()
            for text in _sentences(inner, f"{at}.{name}" if at else str(name))
        ]
    return [f"{at}: {errors[0]}"]
