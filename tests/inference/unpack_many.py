"""Unpacks many files, each in a fork of this one process, as `inference.unpack` does one."""

from __future__ import annotations

import json
import os
from typing import Any

import pyarrow

from inference import unpack
from registry import confined


def main() -> None:
    (text,), told = confined.begin()
    order = json.loads(text)
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    confined.hold(order["memory"], order["written"], order["processor"])
    found = [_one({**order, "path": a, "target": b}) for a, b in order["files"]]
    confined.tell(told, {"found": found})


def _one(order: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, json.dumps(unpack.work(order)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(answer) if code == 0 and answer else {"ended": code}


if __name__ == "__main__":
    main()
