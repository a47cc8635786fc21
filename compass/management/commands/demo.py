"""Show everything once on real data, or serve it."""

from __future__ import annotations

import re
import shutil
import signal
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from compass.client import Compass, CompassError
from compass.demo import Demo, DemoFailed
from compass.log import tail
from compass.trial import NotStarted, TrialStack


class Command(BaseCommand):
    help = "Start a stack on a fresh directory, train on real data, predict, stop."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--data-dir", help="Default: a new temporary directory.")
        parser.add_argument("--port", type=int, help="If taken, the next free one.")
        parser.add_argument(
            "--serve",
            action="store_true",
            help="Keep the stack running, with data and model in it, on the usual directory.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        self.console = Console()
        directory = settings.DATA_DIR
        stack = TrialStack(directory, port=options["port"])
        # Stopped by a signal, it must stop the stack too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._run(stack, serve=options["serve"])
        except (CompassError, DemoFailed, NotStarted, TimeoutError) as error:
            raise CommandError(
                f"{error}\n{self._logs(directory)}\nThe logs are in {directory}/logs."
            ) from None
        except KeyboardInterrupt:
            self._say("Interrupted.")
            if not options["serve"]:
                raise CommandError("The demonstration was interrupted.") from None
        finally:
            stack.stop()
        if left := stack.left():
            raise CommandError(f"Processes are left: {left}.")
        if options["serve"]:
            return
        if directory.name.startswith("compass-demo-"):
            shutil.rmtree(directory)
        self._say(
            f"Everything is stopped, nothing is left; {time.monotonic() - began:.0f} s in all."
        )

    def _run(self, stack: TrialStack, *, serve: bool) -> None:
        began = time.monotonic()
        self._say(f"Starting broker, web, workers and beat on {stack.data_dir} ...")
        stack.start()
        self._say(f"Ready after {time.monotonic() - began:.1f} s at {stack.url}")
        with Compass(stack.url, stack.key) as client:
            if not (serve and client.models()):
                Demo(client, self.console).run()
        self._say(
            f"API pages {stack.url}/api/docs\n"
            f"Admin     {stack.url}/admin/  ({self._login(stack)})\n"
            "Flower    make flower, then http://127.0.0.1:5555\n"
            f"Key       {stack.data_dir / 'key'}"
        )
        if serve:
            self._say("Serving; Ctrl-C stops it.")
            stack.child.wait()

    def _login(self, stack: TrialStack) -> str:
        """How to log in; the stack tells the first password once, at its first start."""
        if found := re.search(r"user admin, password \S+", stack.last_words(50)):
            return found[0]
        return "user admin; forgotten? python manage.py changepassword admin"

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _logs(self, directory: Path) -> str:
        """The end of the logs that most likely tell why."""
        parts = []
        for name in ("stack", "cpu", "inference", "web"):
            if text := tail(directory / "logs" / f"{name}.log", 6):
                parts.append(f"--- {name}.log\n{text}")
        return "\n".join(parts)
