from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import broker, dispatcher, draining
from registry.management.nodes import node_of
from registry.management.output import Command as Base
from registry.views.nodes import shown


class Command(Base):
    help = "Place work on a node again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        node = node_of(options["node"])
        draining.undrain(node)
        dispatcher.flush()
        broker.flush()
        if options["json"]:
            self.print_json(shown(node))
        else:
            self.stdout.write(f"{node} takes work again.")
