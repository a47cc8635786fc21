"""Ends as it is told instead of unpacking a file."""

from __future__ import annotations

import json
import os
import signal
import time

from registry import confined


def main() -> None:
    if os.environ["LANG"] == "none":
        raise SystemExit(1)
    (text,), told = confined.begin()
    order = json.loads(text)
    how = os.environ["LANG"]
    if how == "sleep":
        time.sleep(60)
    elif how == "loop":
        confined.hold(order["memory"], order["written"], 1)
        while True:
            pass
    elif how == "errno":
        confined.tell(told, {"errno": 28})
    elif how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])
    os._exit(3)


if __name__ == "__main__":
    main()
