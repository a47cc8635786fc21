"""How much the networks weigh against the kernel model."""

from __future__ import annotations

import numpy as np

from training.context import Context
from training.recipes.affinity.kernel import Kernel
from training.recipes.affinity.network import Course, Lesson, predict
from training.recipes.affinity.recipe import AffinityParams
from training.recipes.affinity.scale import Blend, best_weight
from training.recipes.affinity.sides import Side, fit_kernel_of, kernel_values
from training.recipes.affinity.towers import Ensemble

JUDGED_KERNELS = (
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
    """The blend asked for, or the best on pairs set aside, or the usual one."""
    if params.blend != "auto":
        return Blend(params.blend, params.blend)
    scale, judged = lesson.scale, lesson.judged
    if judged is not None:
        standard = predict(
            ensemble, lesson.ligand_inputs, lesson.protein_inputs, judged
        )
        weight = best_weight(
            judged.affinity,
            scale.affinity(standard).mean(0),
            kernel_values(kernel, ligands, proteins, judged),
            scale,
        )
        return Blend(known=weight)
    if params.validation_fraction == 0:
        return Blend()
    true, network, beside = [], [], []
    course = Course(lesson, params, "cpu")
    for member, cells, values in course.judge_members(ensemble)[:JUDGED_KERNELS]:
        trained = lesson.cells.take(lesson.parts[member][0])
        apart = fit_kernel_of(ligands, proteins, trained, params.kernel_lambda, context)
        true.append(cells.affinity)
        network.append(values)
        beside.append(kernel_values(apart, ligands, proteins, cells))
    weight = best_weight(
        np.concatenate(true),
        np.concatenate(network),
        np.concatenate(beside),
        scale,
    )
    is_cold = params.split.startswith("cold")
    return Blend(unseen=weight) if is_cold else Blend(known=weight)
