"""Makes the environments of the peers, each in a folder of its own.

    python -m bench.serving.install [--peer all] [--into .venv-peers]

What is pinned in `requirements/NAME.txt` is resolved without installing first. A peer that cannot be installed, or
that would bring another torch than Compass has, is skipped and says why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
ENVIRONMENTS = ROOT / ".venv-peers"
PIP = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
TOLD = 300  # characters of a reason


class Skipped(Exception):
    """Why a peer is not installed."""


def main(arguments: list[str]) -> int:
    known = sorted(one.stem for one in REQUIREMENTS.glob("*.txt"))
    options = argparse.ArgumentParser(
        prog="python -m bench.serving.install", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("--peer", nargs="+", default=["all"], choices=["all", *known])
    options.add_argument("--into", type=Path, default=ENVIRONMENTS)
    chosen = options.parse_args(arguments)
    chosen.into.mkdir(parents=True, exist_ok=True)
    skipped = False
    for name in known if "all" in chosen.peer else chosen.peer:
        note = chosen.into / f"{name}.skipped"
        try:
            print(f"{name}: {install(name, chosen.into)}", flush=True)
            note.unlink(missing_ok=True)
        except Skipped as reason:
            skipped = True
            note.write_text(f"{reason}\n")
            print(f"{name}: skipped: {reason}", flush=True)
    return 1 if skipped else 0


def install(name: str, into: Path) -> str:
    """Make the peer's environment, if it is not there as it is pinned. Raises Skipped."""
    wanted, home = REQUIREMENTS / f"{name}.txt", into / name
    stamp, python = home / "installed.txt", str(home / "bin" / "python")
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return "is there"
    run([sys.executable, "-m", "venv", "--clear", str(home)])
    asked = ["--dry-run", "--ignore-installed", "--report", "-", "-r", str(wanted)]
    check(json.loads(run([python, *PIP, *asked])))
    run([python, *PIP, "-r", str(wanted)])
    stamp.write_text(wanted.read_text())
    return "installed"


def check(report: dict[str, Any]) -> None:
    """Refuse what pip would bring if its torch is not that of Compass. Raises Skipped."""
    found = {
        one["metadata"]["name"].lower(): one["metadata"]["version"]
        for one in report["install"]
    }
    ours = version("torch")
    if found.get("torch") != ours:
        raise Skipped(f"it would bring torch {found.get('torch')}, Compass has {ours}")


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Skipped(said[-1][-TOLD:])
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
