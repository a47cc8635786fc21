"""Rows of similarities: every entity of the data against the reference ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.checkpoints import Checkpoints
from training.context import Context, Stopped
from training.recipes.affinity.chemistry import Ligands
from training.recipes.affinity.proteins import Alignments, Kmers

REFERENCES = 5_000  # entities; up to here all of the training are references
BEYOND = 2_048  # references where there are more
LARGEST_TABLE = 2**26  # similarities, 256 MiB
QUICK_ALIGNMENT = 3e11  # products of lengths; a minute on one core
WORDS_AT_ONCE = 64  # sequences
REPORT_EVERY = 0.25  # seconds between two reports of progress
Rows = NDArray[np.float32]


def choose_references(
    known: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which of the `known` entities the `size` entities of the data are compared with."""
    count = len(known) if len(known) <= REFERENCES else BEYOND
    count = max(min(count, LARGEST_TABLE // size), 1)
    if count == len(known):
        return known
    return np.sort(rng.choice(known, count, replace=False))


def compare_ligands(
    molecules: Sequence[Any], references: NDArray[np.int64], context: Context
) -> Rows:
    """Similarities of shape [molecules, references]. Raises Stopped."""
    ligands = Ligands([molecules[place] for place in references])
    rows = np.empty((len(molecules), len(references)), np.float32)
    for place, molecule in enumerate(molecules):
        context.stop_if_asked()
        rows[place] = ligands.compare(molecule)
    return rows


def compare_words(
    sequences: Sequence[str], references: NDArray[np.int64], context: Context
) -> Rows:
    """3-mer similarities of shape [sequences, references]. Raises Stopped."""
    kmers = Kmers([sequences[place] for place in references])
    rows = np.empty((len(sequences), len(references)), np.float32)
    for start in range(0, len(sequences), WORDS_AT_ONCE):
        context.stop_if_asked()
        part = slice(start, start + WORDS_AT_ONCE)
        rows[part] = kmers.compare_many(sequences[part])
    return rows


def is_quick_to_align(sequences: Sequence[str], references: NDArray[np.int64]) -> bool:
    """Whether aligning all sequences with the references takes about a minute at most."""
    lengths = np.array([len(one) for one in sequences], np.float64)
    return bool(lengths.sum() * lengths[references].sum() / 2 < QUICK_ALIGNMENT)


def align(
    sequences: Sequence[str],
    references: NDArray[np.int64],
    context: Context,
    fractions: tuple[float, float],
    fingerprint: str,
) -> Rows:
    """Alignment similarities of shape [sequences, references], kept beside the checkpoints.

    The references' own square is symmetric and computed half. Raises Stopped.
    """
    kept = Checkpoints(context.checkpoints / "alignment", fingerprint, context.note)
    alignments = Alignments([sequences[place] for place in references])
    others = np.setdiff1d(np.arange(len(sequences)), references)
    square = np.zeros((len(references), len(references)), np.float32)
    rows, begin = np.empty((len(sequences), len(references)), np.float32), 0
    if context.resume and (found := kept.load()) is not None:
        square[:], rows[:], begin = found["square"], found["rows"], found["done"]
    cost = np.array([len(sequences[place]) for place in references], np.float64)
    low, high = fractions

    def square_row(number: int) -> None:
        square[number, number:] = alignments.compare_rest(number)

    def other_row(place: int) -> None:
        rows[place] = alignments.compare(sequences[place])

    work: list[tuple[Callable[[int], None], int, float]] = [
        (square_row, n, cost[n] * cost[n:].sum()) for n in range(len(references))
    ]
    work += [(other_row, int(n), len(sequences[n]) * cost.sum()) for n in others]
    total, done = sum(one[2] for one in work), sum(one[2] for one in work[:begin])
    reported = -REPORT_EVERY

    def save(done: int) -> None:
        tables = {"square": torch.from_numpy(square), "rows": torch.from_numpy(rows)}
        kept.save({**tables, "done": done})

    with ThreadPoolExecutor(context.threads) as pool:
        for start in range(begin, len(work), context.threads):
            if context.should_stop():
                save(start)
                raise Stopped
            if context.should_save() or kept.is_due:
                save(start)
            if time.monotonic() - reported >= REPORT_EVERY:
                reported = time.monotonic()
                fraction = low + (high - low) * done / total
                context.progress(fraction=fraction, stage="aligning proteins")
            chunk = work[start : start + context.threads]
            list(pool.map(lambda one: one[0](one[1]), chunk))
            done += sum(one[2] for one in chunk)
    if begin < len(work):
        save(len(work))
    upper = np.triu(square, 1)
    rows[references] = square + upper.T
    return rows
