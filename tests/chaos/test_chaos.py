"""A minute of chaos: whatever is killed, frozen, cut, wiped or filled, nothing is lost or run twice."""

from __future__ import annotations

import pytest

from tests.chaos.check import KINDS
from tests.chaos.run import Profile, run

SHORT = Profile(faults=35, settle=60, gentle=True)
# Seeds that once found something, with what it was.
FOUND = {
    4: "a launcher that was killed over a launch failed its task for good",
    11: "cleaning left the directory of a script whose worker had died",
}


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_a_minute_of_faults_costs_no_task() -> None:
    result = run(20_260_105, "embedded", SHORT)
    assert result["ran"], result
    assert result["accepted"] > 5, result
    assert {kind: result[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), result


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_once_found_stays_mended(seed: int) -> None:
    result = run(seed, "embedded", Profile.of(1))
    assert {kind: result[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), result
