"""How much the networks weigh against the kernel model."""

from __future__ import annotations

import numpy as np

from training.context import Context
from training.recipes.affinity.kernel import Kernel
from training.recipes.affinity.network import Course, Lesson, predict
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.recipe import AffinityParams
from training.recipes.affinity.scale import Blend, Scale, Vector, best_weight
from training.recipes.affinity.sides import Side, fit_kernel_of, kernel_values
from training.recipes.affinity.towers import Ensemble

ENOUGH = 2_000  # pairs to choose a weight on; for more members no kernel is fitted apart
    2  # members for whose own pairs a kernel model is fitted to choose a blend
)


def choose_blend(
    ensemble: Ensemble,
    lesson: Lesson,
    ligands: Side,
    proteins: Side,
    kernel: Kernel,
    params: AffinityParams,
    context: Context,
) -> Blend:
    """The blend asked for, or the best on pairs set aside, or the usual one. Raises Stopped."""
    if params.blend != "auto":
        return Blend(params.blend, params.blend)
    scale, judged = lesson.scale, lesson.judged
    if judged is not None:
        standard = predict(ensemble, lesson.ligand_inputs, lesson.protein_inputs, judged)
        values = scale.affinity(standard).mean(0)
        beside = kernel_values(kernel, ligands, proteins, judged)
        return Blend(known=best_weight(*_errors(scale, judged, values, beside)))
    if params.validation_fraction == 0:
        return Blend()
    network, kernels, count = [], [], 0
    for member, cells, values in Course(lesson, params, "cpu").judge_members(ensemble):
        if count >= ENOUGH:
            break
        trained = lesson.cells.take(lesson.parts[member][0])
        apart = fit_kernel_of(ligands, proteins, trained, params.kernel_lambda, context)
        beside = kernel_values(apart, ligands, proteins, cells)
        one, other = _errors(scale, cells, values, beside)
        network.append(one)
        kernels.append(other)
        count += len(one)
    excess = _excess(ensemble, lesson, params.seed)
    weight = best_weight(np.concatenate(network), np.concatenate(kernels), excess)
    is_cold = params.split.startswith("cold")
    return Blend(unseen=weight) if is_cold else Blend(known=weight)


def _errors(
    scale: Scale, cells: Cells, network: Vector, kernel: Vector
) -> tuple[Vector, Vector]:
    return (
        scale.above_floor(network) - cells.affinity,
        scale.above_floor(kernel) - cells.affinity,
    )


def _excess(ensemble: Ensemble, lesson: Lesson, seed: int) -> float:
    """How much a member's squared error exceeds the ensemble's, on pairs that nobody has seen.

    The error of a mean of m is smaller by (1 - 1/m) of the variance between them.
    """
    rng, members = np.random.default_rng([seed, 6]), ensemble.shape.members
    if members == 1:
        return 0.0
    i = rng.integers(len(lesson.ligand_inputs), size=ENOUGH)
    j = rng.integers(len(lesson.protein_inputs), size=ENOUGH)
    pairs = Cells(i, j, np.zeros(ENOUGH), np.ones(ENOUGH))
    standard = predict(ensemble, lesson.ligand_inputs, lesson.protein_inputs, pairs)
    values = lesson.scale.above_floor(lesson.scale.affinity(standard))
    return float(values.var(0, ddof=1).mean()) * (1 - 1 / members)
