"""`python -m tests.chaos --seed N --minutes M`: one line of JSON a stack; exit code 1 if any found something."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys

from tests.chaos.run import Profile, passed, run, say
from tests.chaos.services import VARIANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--minutes", type=float, default=1.0, help="of faults, a stack")
    parser.add_argument("--variant", choices=[*VARIANTS, "all"], default="all")
    parser.add_argument("--port", type=int, default=18_100)
    parser.add_argument("--keep", action="store_true", help="Keep what a failure left.")
    asked = parser.parse_args()
    # Stopped by a signal, it must stop the stack too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stderr.write(f"seed {asked.seed}\n")
    variants = VARIANTS if asked.variant == "all" else (asked.variant,)
    results = []
    for variant in variants:
        results.append(
            run(
                asked.seed,
                variant,
                Profile.of(asked.minutes),
                port=asked.port,
                keep=asked.keep,
            )
        )
        say(results[-1])
    return 0 if all(passed(one) for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
