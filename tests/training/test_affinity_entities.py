"""Ligands and proteins of the affinity recipe: reading them, and how similar they are."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from training.context import Context, Stopped
from training.recipes.affinity.chemistry import Ligands, canonical, read_smiles
from training.recipes.affinity.proteins import Alignments, Kmers, read_sequence
from training.recipes.affinity.similarity import align, choose_references

SMILES = ["CCO", "CCN", "c1ccccc1O", "C[C@H](N)O", "C[C@@H](N)O", "CC(=O)O"]
SEQUENCES = [
    "MKVLAAGELLK",
    "MKVLAAGDLLK",
    "GGWWPQRSTYYH",
    "MKV",
    "ACDEFGHIKLMNPQRSTVWY",
]


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("", "no atoms"),
        ("C1CC", "unclosed ring at position 2"),
        ("CC)C", "at position 3"),
        ("CC?C", "syntax error at position 3"),
        ("CC[Zz]", "at position 4"),
        ("C(C)(C)(C)(C)C", "Explicit valence for atom # 0 C, 5, is greater"),
        ("c1cccc1", "kekulize"),
        ("e\u0301", "not a SMILES"),
    ],
)
def test_a_bad_smiles_is_refused_with_the_reason(smiles: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_smiles(smiles)


def test_reasons_do_not_mix_between_threads() -> None:
    wrong: list[str] = []

    def read(smiles: str, words: str) -> None:
        for _ in range(50):
            try:
                read_smiles(smiles)
            except ValueError as error:
                if words not in str(error):
                    wrong.append(str(error))

    cases = [("CC?C", "position 3"), ("C1CC", "unclosed"), ("C=?", "position 3")]
    threads = [threading.Thread(target=read, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ligand_similarity_is_that_of_rdkit() -> None:
    from rdkit.DataStructs import TanimotoSimilarity

    from training.recipes.affinity.chemistry import MORGAN

    molecules = [read_smiles(one) for one in SMILES]
    ligands = Ligands(molecules)
    for molecule in molecules:
        wanted = [
            TanimotoSimilarity(
                MORGAN.GetCountFingerprint(molecule), MORGAN.GetCountFingerprint(other)
            )
            for other in molecules
        ]
        assert ligands.compare(molecule) == pytest.approx(wanted, abs=1e-6)


def test_stereoisomers_are_alike_but_not_equal() -> None:
    row = Ligands([read_smiles("C[C@H](N)O")]).compare(read_smiles("C[C@@H](N)O"))
    assert 0 < row[0] < 1
    assert canonical(read_smiles("C[C@H](N)O")) != canonical(read_smiles("C[C@@H](N)O"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" * ", "empty"),
        ("MKV1", "'1' at position 4"),
        ("M K\nV-L", "'-' at position 4"),
        ("ACGTACGT", "DNA or RNA"),
        ("acguacgun", "DNA or RNA"),
        ("MKVÄ", "at position 4"),
    ],
)
def test_a_bad_sequence_is_refused_with_the_position(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_sequence(text)


def test_a_sequence_is_cleaned_but_a_short_peptide_of_nucleotide_letters_stays() -> (
    None
):
    assert read_sequence(" mkv\nxbz uoj*") == "MKVXBZUOJ"
    assert read_sequence("ACGT") == "ACGT"


@pytest.mark.parametrize("kind", [Kmers, Alignments])
def test_protein_similarity_is_one_with_itself_and_larger_for_relatives(
    kind: type[Kmers] | type[Alignments],
) -> None:
    proteins = kind(SEQUENCES)
    row = proteins.compare(SEQUENCES[0])
    assert row[0] == pytest.approx(1, abs=1e-6)
    assert row[0] > row[1] > row[2] >= 0
    assert proteins.nbytes > 0


def test_many_kmer_rows_are_those_of_one_by_one() -> None:
    kmers = Kmers(SEQUENCES)
    rows = kmers.compare_many(SEQUENCES)
    for sequence, row in zip(SEQUENCES, rows, strict=True):
        assert kmers.compare(sequence) == pytest.approx(row, abs=1e-6)


def test_alignment_scores_are_those_of_smith_waterman() -> None:
    import parasail

    def score(a: str, b: str) -> int:
        return int(parasail.sw(a, b, 10, 1, parasail.blosum62).score)

    row = Alignments(SEQUENCES).compare(SEQUENCES[4])
    wanted = [
        score(SEQUENCES[4], one)
        / (score(one, one) * score(SEQUENCES[4], SEQUENCES[4])) ** 0.5
        for one in SEQUENCES
    ]
    assert row == pytest.approx(wanted, abs=1e-6)


def test_aligning_all_is_aligning_one_by_one_and_is_done_once(tmp_path: Path) -> None:
    context = Context(tmp_path / "c", tmp_path / "o", tmp_path / "s", threads=2)
    references = np.array([0, 2, 4])
    rows = align(SEQUENCES, references, context, (0.0, 0.5), "this")
    single = Alignments([SEQUENCES[n] for n in references])
    for sequence, row in zip(SEQUENCES, rows, strict=True):
        assert single.compare(sequence) == pytest.approx(row, abs=1e-6)
    context.should_stop = lambda: True
    assert np.array_equal(
        align(SEQUENCES, references, context, (0.0, 0.5), "this"), rows
    )
    with pytest.raises(Stopped):
        align(SEQUENCES, references, context, (0.0, 0.5), "other")


def test_many_entities_get_fewer_references() -> None:
    rng = np.random.default_rng(0)
    assert len(choose_references(np.arange(5_000), 6_000, rng)) == 5_000
    assert len(choose_references(np.arange(5_001), 6_000, rng)) == 2_048
    few = choose_references(np.arange(900_000), 1_000_000, rng)
    assert len(few) == 67
    assert few.tolist() == sorted(set(few.tolist()))
