"""What is left of a job on this host: found by its mark and in its control groups."""

from __future__ import annotations

from training import marks
from training.scripts import groups


def living(mark: int) -> list[int]:
    """The living processes of that job; who took the mark off is still in the group."""
    return marks.carriers(mark) or groups.members(f"{mark:x}")


def of_node(mark: int) -> dict[int, list[int]]:
    """The living processes of the jobs of that node by the mark of the job."""
    found: dict[int, list[int]] = {}
    for pid in marks.carriers(mark):
        if own := marks.of_process(pid):
            found.setdefault(own, []).append(pid)
    for name in groups.populated(f"{mark >> marks.JOB_BITS:x}"):
        if int(name, 16) not in found:
            found[int(name, 16)] = groups.members(name)
    return found


def end(mark: int) -> int:
    """Kill all of that job; how many the kernel does not let go."""
    groups.end(f"{mark:x}")
    return marks.end(mark) or len(groups.members(f"{mark:x}"))
