"""Compass beside its peers in interleaved rounds; every answer is compared to bare torch.

    python -m bench.serving [--peers-in DIR] [--only compass,fastapi] [--rounds 3] [--seconds 4]

The peers' environments are made by `python -m bench.serving.install --peer all`. One model after
the other: all its servers are started, and each in turn is woken, warmed up, measured and stopped again. What
is not installed or does not start is `not measured`, with the reason. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.report import Report
from bench.serving import models, table
from bench.serving.catalog import BY_NAME, COMPASS, PEERS
from bench.serving.install import ENVIRONMENTS
from bench.serving.measure import Contender, as_json
from bench.serving.server import NotMeasured, Server
from bench.serving.starting import free_ports, running
from bench.serving.table import Found

FIRST_PORT = 18600
FIRST_WARM = 2.0  # seconds, at each number of clients
FRONT, WORKER = "compass.front", "inference@"  # in the commands of Compass's processes
WORKER_MEMORY = 300.0  # MB of an inference worker with both models at most


def main(arguments: list[str]) -> int:
    options = read(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found, report = Found(), Report("serving")
    ports = free_ports(options.first_port)
    for model in options.models:
        with ExitStack() as stack:
            turns = list(begin(stack, found, options, model, ports))
            rounds(found, options, model, turns)
            finish(found, report, options, model, turns)
    print("\n".join(table.lines(found)))
    table.judge(found, report)
    report.details = details(found)
    return report.finish()


def read(arguments: list[str]) -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m bench.serving", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("--peers-in", type=Path, default=ENVIRONMENTS)
    options.add_argument("--only", type=names, default=list(BY_NAME), metavar="NAMES")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    options.add_argument("--models", nargs="+", default=list(models.MODULES),
                         choices=list(models.MODULES))  # fmt: skip
    options.add_argument("--first-port", type=int, default=FIRST_PORT)
    return options.parse_args(arguments)


def names(text: str) -> list[str]:
    """The servers that are meant. Raises ArgumentTypeError."""
    some = [one.strip() for one in text.split(",") if one.strip()]
    if unknown := [one for one in some if one not in BY_NAME]:
        known = ", ".join(BY_NAME)
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {known}")
    return some


def begin(
    stack: ExitStack, found: Found, options: argparse.Namespace, model: str, ports: Iterator[int]
) -> Iterator[Contender]:  # fmt: skip
    """Start what was asked for, one after the other; what does not start is noted."""
    for peer in PEERS:
        for variant in (
            peer.variants.get(model, {}) if peer.name in options.only else ()
        ):
            name = f"{peer.name} {variant}"
            try:
                begun = running(peer, variant, model, next(ports), options.peers_in)
                one = Contender(peer, stack.enter_context(begun), model)
                for clients in options.clients:
                    one.warm(clients, min(FIRST_WARM, options.seconds))
                one.server.pause()
            except NotMeasured as error:
                say(f"{model}: {name}: not measured: {error}")
                found.missing[f"{name}, {model}"] = str(error)
            else:
                say(f"{model}: {name} is ready")
                yield one


def rounds(
    found: Found, options: argparse.Namespace, model: str, turns: list[Contender]
) -> None:
    """Every server in turn, in each round and for each number of clients."""
    for number in range(options.rounds):
        for clients in options.clients:
            for one in list(turns):
                try:
                    figures = one.measure(clients, options.seconds)
                except NotMeasured as error:
                    say(f"{model}: {one.name} has died: {error}")
                    found.missing[f"{one.name}, {model}, {clients} clients"] = str(
                        error
                    )
                    turns.remove(one)
                else:
                    found.add((model, clients), one.name, figures)
            say(f"{model}: round {number + 1}, {clients} clients")


def finish(
    found: Found, report: Report, options: argparse.Namespace, model: str, turns: list[Contender]
) -> None:  # fmt: skip
    """Memory, and what becomes of good requests beside bad ones."""
    for one in turns:
        memory = found.memory.setdefault(model, {})
        memory[one.name] = one.server.cost()
        if one.peer.name == COMPASS:
            memory[f"{one.name}, what serves"] = one.server.cost(FRONT, WORKER)
            worker = max(workers(one.server), default=0.0)
            what = f"{model}, {one.name}: an inference worker with both models"
            report.add(what, worker, "MB", WORKER_MEMORY)
    for one in turns:
        if not one.peer.is_empty:
            try:
                told = one.beside_a_bad_one(options.seconds)
            except NotMeasured as error:
                found.missing[f"{one.name}, {model}, beside bad ones"] = str(error)
            else:
                found.bad.setdefault(model, {})[one.name] = told


def workers(server: Server) -> list[float]:
    """MB of each inference worker of a Compass stack, shared pages counted once."""
    return [
        one.memory_full_info().pss / 1e6
        for one in server.tree()
        if WORKER in " ".join(one.cmdline())
    ]


def details(found: Found) -> dict[str, object]:
    return {
        "cells": [
            {"model": model, "clients": clients, "server": name, **as_json(some)}
            for (model, clients), by_name in found.cells.items()
            for name, some in by_name.items()
        ],
        "memory": {
            model: {name: asdict(cost) for name, cost in some.items()}
            for model, some in found.memory.items()
        },
        "beside_bad_ones": found.bad,
        "not_measured": found.missing,
        "settings": {peer.name: peer.settings for peer in PEERS},
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
