"""What one inference worker takes with both models of the comparison loaded and asked, by engine.

    python -m bench.footprint [--engines fastest eager exported onnx] [--requests 4000] [--maps 12]

Resident memory counts every page of the process, also those that it shares with others; of the proportional set size a
page that n processes share is 1/n. `--maps` shows the largest mappings.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

from bench.flat import Load, Questions
from bench.report import Report
from bench.serving.server import Server
from bench.serving.starting import compass

BUDGET = 300.0  # MB, resident
CLIENTS = 8
MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)")
KINDS = ("Rss", "Pss", "Anonymous")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", nargs="+", default=["fastest"])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--maps", type=int, default=0)
    options = parser.parse_args()
    report = Report("footprint")
    for engine in options.engines:
        with compass("" if engine == "fastest" else engine) as server:
            load = Load(server.port, Questions(server.headers))
            load.run(options.requests, CLIENTS)
            report.errors += load.errors
            for pid in workers(server):
                found = mappings(pid)
                rss, pss, own = (
                    sum(one[n] for one in found.values()) for n in range(3)
                )
                # Only what is chosen is held to the budget; torch alone takes two thirds of it.
                budget = BUDGET if engine == "fastest" else None
                report.add(f"{engine}: resident", rss, "MB", budget)
                report.add(f"{engine}: proportional", pss, "MB")
                report.add(f"{engine}: of no file", own, "MB")
                show(found, options.maps)
    return report.finish()


def workers(server: Server) -> list[int]:
    return [
        one.pid
        for one in server.tree()
        if any("inference@" in w for w in one.cmdline())
    ]


def mappings(pid: int) -> dict[str, list[float]]:
    """MB resident, proportional and anonymous, by what is mapped."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(KINDS))
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := MAPPING.match(line):
            name = Path(match[1]).name or "[anon]"
            continue
        kind, _, rest = line.partition(":")
        if kind in KINDS:
            found[name][KINDS.index(kind)] += int(rest.split()[0]) / 1000
    return found


def show(found: dict[str, list[float]], most: int) -> None:
    for name, figures in sorted(found.items(), key=lambda one: -one[1][0])[:most]:
        print("".join(f"{one:9.1f}" for one in figures), name[-70:])


if __name__ == "__main__":
    sys.exit(main())
