"""Proteins: reading sequences, and how similar two of them are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LETTERS = frozenset("ACDEFGHIKLMNPQRSTVWYXBZUOJ")
NUCLEOTIDES = frozenset("ACGTUN")
DNA_LENGTH = 8  # residues; a shorter word of nucleotide letters may well be a peptide
OPEN, EXTEND = 10, 1  # gap penalties of Smith-Waterman
# BLOSUM62 knows neither selenocysteine nor pyrrolysine, nor J for leucine or isoleucine.
STANDARD = str.maketrans("UOJ", "CKL")
ALPHABET = 26


def read_sequence(text: str) -> str:
    """The residues in upper case, without white space and `*`.

    Raises ValueError for an empty sequence, the first unknown letter with its position (1 is the
    first residue), and for what looks like DNA or RNA.
    """
    sequence = "".join(text.split()).replace("*", "").upper()
    if not sequence:
        raise ValueError("the sequence is empty")
    if not LETTERS.issuperset(sequence):
        place = next(n for n, one in enumerate(sequence) if one not in LETTERS)
        raise ValueError(
            f"unknown residue letter {sequence[place]!r} at position {place + 1}"
        )
    if len(sequence) >= DNA_LENGTH and NUCLEOTIDES.issuperset(sequence):
        raise ValueError("this looks like DNA or RNA; a protein sequence is needed")
    return sequence


class Kmers:
    """Reference proteins, compared by which words of three residues they have."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self.table = np.stack([words(one) for one in sequences], axis=1)

    def compare(self, sequence: str) -> NDArray[np.float32]:
        """Cosine of the square roots of the 3-mer counts with each, 0 to 1."""
        mine = words(sequence)
        places = np.flatnonzero(mine)
        shares: NDArray[np.float32] = mine[places] @ self.table[places]
        return np.clip(shares, 0, 1)

    def compare_many(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        """The same of several at once, [sequences, references]."""
        import torch  # whose threads share it, as those of a training

        mine = torch.from_numpy(np.stack([words(one) for one in sequences]))
        rows: NDArray[np.float32] = (mine @ torch.from_numpy(self.table)).numpy()
        return np.clip(rows, 0, 1)

    @property
    def nbytes(self) -> int:
        return int(self.table.nbytes)


class Alignments:
    """Reference proteins, compared by local alignment (Smith-Waterman, BLOSUM62, gaps 10 and 1)."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self.sequences = [one.translate(STANDARD) for one in sequences]
        self.own = np.array([_score(one, [one])[0] for one in self.sequences])

    def compare(self, sequence: str) -> NDArray[np.float32]:
        """Score over the geometric mean of both scores with themselves, 0 to 1."""
        sequence = sequence.translate(STANDARD)
        return self._relative(sequence, self.sequences, self.own)

    def compare_rest(self, number: int) -> NDArray[np.float32]:
        """The reference protein of that number with itself and those after it."""
        rest = self.sequences[number:]
        return self._relative(rest[0], rest, self.own[number:])

    def _relative(
        self, sequence: str, others: list[str], own: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        score = _score(sequence, [sequence, *others])
        shares = score[1:] / np.sqrt(score[0] * own)
        relative: NDArray[np.float32] = np.clip(shares, 0, 1).astype(np.float32)
        return relative

    @property
    def nbytes(self) -> int:
        return sum(len(one) for one in self.sequences) + self.own.nbytes


def words(sequence: str) -> NDArray[np.float32]:
    """Square roots of the counts of all 26^3 words of three letters, of length 1."""
    letters = np.frombuffer(sequence.translate(STANDARD).encode(), np.uint8) - ord("A")
    codes = letters.astype(np.int64)
    if len(codes) < 3:
        return np.zeros(ALPHABET**3, np.float32)
    triples = (codes[:-2] * ALPHABET + codes[1:-1]) * ALPHABET + codes[2:]
    roots = np.sqrt(np.bincount(triples, minlength=ALPHABET**3).astype(np.float32))
    unit: NDArray[np.float32] = roots / np.linalg.norm(roots)
    return unit


def _score(sequence: str, others: Sequence[str]) -> NDArray[np.float64]:
    import parasail  # 7 MB, which the warm process need not hold for jobs that align nothing

    profile = parasail.profile_create_sat(sequence, parasail.blosum62)
    align = parasail.sw_striped_profile_sat
    scores = [align(profile, other, OPEN, EXTEND).score for other in others]
    return np.maximum(np.array(scores, np.float64), 1)
