from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User

from registry import broker
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse
from registry.models import Task
from registry.scheduler import dispatch
from registry.states import FINAL, State
from training.progress import shown_while
from training.serializers import TrainRequest
from training.submission import submit

LOOK_EVERY = 0.25  # seconds


class Command(Base):
    help = "Train a recipe on a data set and show how it goes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("recipe")
        parser.add_argument(
            "--dataset", required=True, help="upload id or built-in name"
        )
        parser.add_argument(
            "--mode", help="smoke_test, prototyping, validation, production"
        )
        parser.add_argument(
            "-p", "--param", action="append", default=[], metavar="NAME=VALUE",
            help="a parameter of the recipe, as JSON or text; may be repeated",
        )  # fmt: skip
        parser.add_argument("--name", default="")
        parser.add_argument("--model-name")
        parser.add_argument("--lane", default="auto", choices=["cpu", "gpu", "auto"])
        parser.add_argument("--user", default="admin", help="whose task it is")
        parser.add_argument(
            "--detach", action="store_true", help="do not wait for its end"
        )
        parser.add_argument(
            "--json", action="store_true", help="print the result as JSON"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise WrongUse(f"There is no user {options['user']!r}.")
        asked = TrainRequest(data=self._request(options))
        if not asked.is_valid():
            raise WrongUse("; ".join(f"{k}: {v[0]}" for k, v in asked.errors.items()))
        task = submit(user, asked.validated_data)
        dispatch()
        broker.flush()
        if not options["detach"]:
            self._follow(task, quiet=options["json"])
        self._conclude(task, options)

    def _request(self, options: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = {"mode": options["mode"]} if options["mode"] else {}
        for pair in options["param"]:
            name, equals, text = pair.partition("=")
            if not equals:
                raise WrongUse(f"{pair!r} is not NAME=VALUE.")
            try:
                params[name] = json.loads(text)
            except ValueError:
                params[name] = text
        request = {
            "recipe": options["recipe"],
            "dataset": options["dataset"],
            "params": params,
            "name": options["name"],
            "lane": options["lane"],
        }
        if options["model_name"]:
            request["model_name"] = options["model_name"]
        return request

    def _follow(self, task: Task, *, quiet: bool) -> None:
        with shown_while(self.stdout, quiet=quiet) as show:
            while task.state not in FINAL and task.state != State.PAUSED:
                show(task)
                time.sleep(LOOK_EVERY)
                task.refresh_from_db()
            show(task)

    def _conclude(self, task: Task, options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json(
                {"id": str(task.pk), "state": task.state, "result": task.result}
            )
        elif task.state == State.COMPLETED:
            self.stdout.write(f"Model {task.result['model']}:{task.result['version']}")
            for name, value in sorted(task.result["metrics"].items()):
                if isinstance(value, float):
                    self.stdout.write(f"  {name}: {value:.4g}")
        else:
            self.stdout.write(f"Task {task.pk} is {task.state}. {task.message}")
        if task.state in (State.FAILED, State.CANCELLED):
            raise Failed(f"{task.message} {task.hint}")
