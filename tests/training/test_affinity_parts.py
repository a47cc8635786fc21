"""The pieces of the affinity recipe, each against something computed another way."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from training.context import Context, Stopped
from training.recipes.affinity.baselines import trivial
from training.recipes.affinity.chemistry import Ligands, canonical, read_smiles
from training.recipes.affinity.kernel import fit_kernel
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.proteins import Alignments, Kmers, read_sequence
from training.recipes.affinity.scale import (
    Scale,
    best_weight,
    combine,
    find_scale,
)
from training.recipes.affinity.similarity import align, choose_references
from training.recipes.affinity.splits import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VALID,
    draw,
    given,
    hold_out,
)
from training.recipes.affinity.towers import Ensemble, Shape, clip_members

SMILES = ["CCO", "CCN", "c1ccccc1O", "C[C@H](N)O", "C[C@@H](N)O", "CC(=O)O"]
SEQUENCES = [
    "MKVLAAGELLK",
    "MKVLAAGDLLK",
    "GGWWPQRSTYYH",
    "MKV",
    "ACDEFGHIKLMNPQRSTVWY",
]


def cells(size: int = 40, seed: int = 0) -> Cells:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(SMILES) * 10, size, replace=False)
    ligand, protein = np.divmod(chosen, 10)
    return Cells(
        ligand, protein, rng.normal(6, 1, size), rng.integers(1, 4, size) * 1.0
    )


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


def test_the_kernel_model_solves_its_equations() -> None:
    rng = np.random.default_rng(1)
    left, right = (
        torch.from_numpy(one @ one.T)
        for one in (rng.normal(size=(6, 9)) / 3, rng.random((10, 20)) / 3)
    )
    some = cells(30)
    context = Context(Path(), Path(), Path())
    kernel = fit_kernel(left, right, some, 0.5, context)
    pairwise = (
        left.numpy()[np.ix_(some.ligand, some.ligand)]
        * np.sqrt(right.numpy())[np.ix_(some.protein, some.protein)]
    )
    mean = np.average(some.affinity, weights=some.weight)
    solution = np.linalg.solve(
        pairwise + np.diag(0.5 / some.weight), some.affinity - mean
    )
    wanted = mean + pairwise @ solution
    got = kernel.predict(left, right, some.ligand, some.protein)
    assert got == pytest.approx(wanted, abs=0.02)


def test_trivial_baselines_of_a_small_case() -> None:
    some = Cells(
        np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 3.0, 5.0]), np.ones(3)
    )
    found = trivial(some, np.array([0, 1, 2]), np.array([0, 1, 5]))
    assert found["mean"].tolist() == [3, 3, 3]
    assert found["mean_per_protein"].tolist() == [3, 3, 3]
    assert found["mean_per_ligand"].tolist() == [2, 5, 3]
    assert found["additive"] == pytest.approx([1, 7, 3], abs=0.05)


def test_a_lowest_value_that_many_share_is_a_floor() -> None:
    values = np.array([5.0] * 10 + [6.0, 7.0, 8.0, 9.0])
    some = Cells(np.arange(14), np.arange(14), values, np.ones(14))
    assert find_scale(some, "auto").floor == 5
    assert find_scale(some, "none").floor is None


def test_a_common_value_above_the_lowest_is_no_floor() -> None:
    values = np.array([4.0] + [5.0] * 30 + [6.0] * 9)
    some = Cells(np.arange(40), np.arange(40), values, np.ones(40))
    assert find_scale(some, "auto").floor is None


def test_answers_below_the_floor_come_to_it_and_keep_their_order() -> None:
    values = Scale(6, 1, 5.0).above_floor(np.array([3.0, 4.0, 5.0, 7.0]))
    assert values.tolist() == [4.98, 4.99, 5.0, 7.0]


def test_the_blend_is_the_weighted_mean_and_the_spread_that_of_the_members() -> None:
    members = np.array([[4.0, 6.0], [6.0, 6.0]])
    values, spread = combine(
        members, np.array([7.0, 8.0]), np.array([0.5, 1.0]), Scale(0, 1, None)
    )
    assert values.tolist() == [6, 6]
    assert spread.tolist() == [1, 0]


def test_the_best_weight_is_found() -> None:
    true = np.array([1.0, 2.0, 3.0])
    assert best_weight(true, true + 0.3, true - 0.1, Scale(0, 1, None)) == 0.25


@pytest.mark.parametrize("kind", ["random", "cold_ligand", "cold_protein", "cold_both"])
def test_a_split_keeps_apart_what_its_name_says(kind: str) -> None:
    rng = np.random.default_rng(3)
    ligand, protein = rng.integers(20, size=600), rng.integers(30, size=600)
    roles = draw(kind, ligand, protein, 0.2, np.random.default_rng(4))  # type: ignore[arg-type]
    train, test = roles == TRAIN, roles == TEST
    assert train.any()
    assert test.any()

    def meet(names: np.ndarray) -> bool:
        return bool(set(names[train]) & set(names[test]))

    assert not meet(ligand * 30 + protein)
    assert meet(ligand) == (kind in ("random", "cold_protein"))
    assert meet(protein) == (kind in ("random", "cold_ligand"))
    assert (roles == LEFT_OUT).any() == (kind == "cold_both")


def test_a_given_fold_is_taken_as_it_is() -> None:
    roles = given(["test", "train0", "valid", "validation", "", "train"])
    assert roles.tolist() == [TEST, TRAIN, VALID, VALID, TRAIN, TRAIN]


def test_members_set_aside_pairs_that_they_do_not_train_on() -> None:
    parts = hold_out("random", cells(50), 0.2, 3, 0)
    for train, judged in parts:
        assert len(judged) == 10
        assert sorted([*train, *judged]) == list(range(50))
    assert parts[0][1].tolist() != parts[1][1].tolist()


def ensemble(members: int = 3, dropout: float = 0.0) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(Shape(6, 5, members, 8, 4, 4, dropout))


def test_members_together_compute_what_each_computes_alone() -> None:
    whole = ensemble()
    rows = torch.randn(6, 6), torch.randn(5, 5)
    i = torch.arange(4).expand(3, -1)
    values = whole(*rows, i, i)
    for member in range(3):
        alone = ensemble(1)
        alone.load_state_dict(
            {k: v[member : member + 1] for k, v in whole.state_dict().items()}
        )
        torch.testing.assert_close(alone(*rows, i[:1], i[:1])[0], values[member])


def test_small_batches_look_up_rows_and_large_ones_entities_with_one_result() -> None:
    whole = ensemble()
    ligands, proteins = torch.randn(40, 6), torch.randn(50, 5)
    i, j = torch.randint(40, (3, 60)), torch.randint(50, (3, 60))
    together = whole(ligands, proteins, i, j)
    apart = torch.cat(
        [whole(ligands, proteins, i[:, n : n + 1], j[:, n : n + 1]) for n in range(60)],
        1,
    )
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(whole.score(ligands, proteins, i, j), together)


def test_each_member_has_its_own_gradient_norm_clipped() -> None:
    whole = ensemble()
    for n, parameter in enumerate(whole.parameters()):
        torch.manual_seed(n)
        parameter.grad = torch.randn_like(parameter)
        parameter.grad[1] *= 1e-6
    before = [p.grad[1].clone() for p in whole.parameters() if p.grad is not None]
    clip_members(whole, 0.5)
    gradients = [p.grad for p in whole.parameters() if p.grad is not None]
    norms = sum(one.square().flatten(1).sum(1) for one in gradients)
    assert torch.as_tensor(norms).sqrt()[0].item() == pytest.approx(0.5, rel=1e-4)
    for was, one in zip(before, gradients, strict=True):
        assert torch.equal(was, one[1])


def test_dropout_only_acts_in_training() -> None:
    whole = ensemble(dropout=0.5)
    rows = torch.randn(6, 6), torch.randn(5, 5)
    i = torch.arange(4).expand(3, -1)
    assert not torch.equal(whole(*rows, i, i), whole(*rows, i, i))
    whole.eval()
    assert torch.equal(whole(*rows, i, i), whole(*rows, i, i))
