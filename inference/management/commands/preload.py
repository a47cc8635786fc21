from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from inference import commands
from registry.addresses import resolve
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse

MOST_WAIT = 600.0  # seconds


class Command(Base):
    help = "Load a model on every inference worker, or let it go there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="name, name:3 or name@alias")
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--evict", action="store_true", help="unpin it, let it go")
        way.add_argument("--pin", action="store_true", help="never evict it")
        parser.add_argument(
            "--wait",
            type=float,
            metavar="SECONDS",
            help="how long to wait for the load",
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        seconds = options["wait"]
        if seconds is None:
            seconds = float(settings.ENVIRONMENT.predict_timeout)
        if not 0 <= seconds <= MOST_WAIT:
            raise WrongUse(f"--wait takes 0 to {MOST_WAIT:g} seconds.")
        version = resolve(options["model"])
        name = "evict" if options["evict"] else "preload"
        told = commands.tell_all(name, version.pk, seconds=seconds, pin=options["pin"])
        if options["json"]:
            about = {"model": version.model.name, "version": version.number}
            self.print_json({**about, "workers": told})
        else:
            rows = [
                (one["worker"], one["outcome"], one["seconds"], one.get("detail"))
                for one in told
            ]
            self.print_table(("WORKER", "OUTCOME", "SECONDS", "WHY"), rows)
        odd = sum(one["outcome"] not in commands.SERVED for one in told)
        if odd:
            done = "evicted" if options["evict"] else "loaded"
            raise Failed(f"{version} is not {done} on {odd} of {len(told)} workers.")
