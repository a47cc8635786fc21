"""The ideal cache that the real one is compared with, and the requests that both get."""

from __future__ import annotations

from bench import zipf


def test_the_ideal_cache_drops_the_least_recently_asked() -> None:
    assert zipf.hits([1, 2, 1, 3, 1, 2], room=2) == 2
    assert zipf.hits([1, 2, 3, 1, 2, 3], room=2) == 0
    assert zipf.hits([1, 1, 1], room=1) == 2
    assert zipf.hits([], room=1) == 0


def test_requests_are_the_same_each_time_and_the_first_model_is_asked_most() -> None:
    some = zipf.sequence(100, 10_000)
    assert some == zipf.sequence(100, 10_000)
    counts = [some.count(n) for n in range(100)]
    assert max(counts) == counts[0]
    assert 1.8 < counts[0] / counts[1] < 2.6
    assert set(some) <= set(range(100))
