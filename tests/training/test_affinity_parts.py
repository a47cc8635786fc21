"""The pieces of the affinity recipe, each against something computed another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.context import Context
from training.recipes.affinity.baselines import trivial
from training.recipes.affinity.kernel import fit_kernel
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.scale import (
    Scale,
    best_weight,
    combine,
    find_scale,
)
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


def test_the_best_weight_makes_the_smallest_error() -> None:
    rng = np.random.default_rng(0)
    network, kernel = rng.normal(0.1, 1, 500), rng.normal(0, 1.2, 500)
    weight = best_weight(network, kernel)
    errors = [
        np.mean((w * network + (1 - w) * kernel) ** 2)
        for w in (weight - 0.02, weight, weight + 0.02)
    ]
    assert 0 < weight < 1
    assert min(errors) == errors[1]


def test_a_weight_stays_between_nothing_and_all() -> None:
    error = np.array([1.0, -1.0, 2.0])
    assert best_weight(3 * error, error) == 0
    assert best_weight(error, 3 * error) == 1
    assert best_weight(error, error) in (0, 1)


def test_an_ensemble_weighs_more_than_its_noisy_members() -> None:
    rng = np.random.default_rng(0)
    network, kernel = rng.normal(0, 1, 500), rng.normal(0, 1, 500)
    assert best_weight(network, kernel, 0.5) > best_weight(network, kernel) + 0.1


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


def test_two_members_set_aside_the_same_pairs_and_do_not_train_on_them() -> None:
    parts = hold_out("random", cells(50), 0.2, 3, 0)
    for train, judged in parts:
        assert len(judged) == 10
        assert sorted([*train, *judged]) == list(range(50))
    assert parts[0][1].tolist() == parts[1][1].tolist()
    assert parts[0][1].tolist() != parts[2][1].tolist()


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
