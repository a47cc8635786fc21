"""The reason of what ended a training, by the error that a library raised."""

from __future__ import annotations

from safetensors import SafetensorError

from training.job import explain


def test_a_full_disk_is_known_by_the_words_of_safetensors() -> None:
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert explain(SafetensorError(text))[0] == "disk_full"


def test_an_error_that_only_speaks_of_a_disk_is_an_error() -> None:
    assert explain(RuntimeError("The disk model is full of holes."))[0] == "error"
