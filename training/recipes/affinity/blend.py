"""How much the networks weigh against the kernel model."""

from __future__ import annotations

import numpy as np

from training.context import Context
from training.recipes.affinity.kernel import Kernel
from training.recipes.affinity.network import Course, Lesson, predict
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.recipe import AffinityParams
from training.recipes.affinity.scale import (
    KNOWN,
    UNSEEN,
    Blend,
    Scale,
    Vector,
    best_weight,
)
from training.recipes.affinity.sides import Side, fit_kernel_of, kernel_values
from training.recipes.affinity.splits import TEAM
from training.recipes.affinity.towers import Ensemble

ENOUGH = (
    2_000  # pairs to choose a weight on; for more members no kernel is fitted apart
)
PRIOR = 1_000  # pairs that the usual weight is worth


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
        standard = predict(
            ensemble, lesson.ligand_inputs, lesson.protein_inputs, judged
        )
        values = scale.affinity(standard).mean(0)
        beside = kernel_values(kernel, ligands, proteins, judged)
        weight = best_weight(*_errors(scale, judged, values, beside))
        return Blend(known=_with_prior(weight, KNOWN, values.size))
    if not lesson.has_held_out:
        return Blend()
    network, kernels, variances = list[Vector](), list[Vector](), list[Vector]()
    teams = Course(lesson, params, "cpu").judge_teams(ensemble)
    for number, (cells, values) in enumerate(teams):
        if (
            len(values) < min(TEAM, params.members)
            or sum(one.size for one in network) >= ENOUGH
        ):
            break
        trained = lesson.cells.take(lesson.parts[number * TEAM][0])
        apart = fit_kernel_of(ligands, proteins, trained, params.kernel_lambda, context)
        beside = kernel_values(apart, ligands, proteins, cells)
        one, other = _errors(scale, cells, values.mean(0), beside)
        network.append(one)
        kernels.append(other)
        variances.append(scale.above_floor(values).var(0) * TEAM / (TEAM - 1))
    # The mean of m members has 1/m of the variance between them in its squared error.
    variance = float(np.concatenate(variances).mean())
    excess = variance * max(1 / TEAM - 1 / params.members, 0.0)
    errors = np.concatenate(network), np.concatenate(kernels)
    weight = best_weight(*errors, excess)
    if params.split.startswith("cold"):
        return Blend(unseen=_with_prior(weight, UNSEEN, errors[0].size))
    return Blend(known=_with_prior(weight, KNOWN, errors[0].size))


def _with_prior(weight: float, usual: float, pairs: int) -> float:
    """Between the weight found and the usual one, nearer to the first the more pairs tell it."""
    return (pairs * weight + PRIOR * usual) / (pairs + PRIOR)


def _errors(
    scale: Scale, cells: Cells, network: Vector, kernel: Vector
) -> tuple[Vector, Vector]:
    return (
        scale.above_floor(network) - cells.affinity,
        scale.above_floor(kernel) - cells.affinity,
    )
