"""Training an affinity model: baselines first, then the networks, then the judgement."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.bundle import save_bundle
from training.context import Context
from training.recipes.affinity.baselines import trivial
from training.recipes.affinity.blend import choose_blend
from training.recipes.affinity.inputs import Inputs, find_inputs
from training.recipes.affinity.judge import Judge
from training.recipes.affinity.kernel import Kernel
from training.recipes.affinity.network import Lesson, predict, train_ensemble
from training.recipes.affinity.pairs import Cells, Pairs, merge, read_pairs
from training.recipes.affinity.recipe import (
    INPUTS,
    NAME,
    OUTPUTS,
    AffinityParams,
)
from training.recipes.affinity.scale import (
    Blend,
    Scale,
    combine,
    find_scale,
)
from training.recipes.affinity.sides import (
    Side,
    align_proteins,
    compare_all,
    fit_kernel_of,
    kernel_values,
)
from training.recipes.affinity.splits import (
    TEST,
    TRAIN,
    VALID,
    Kind,
    assign_roles,
    hold_out,
    nothing_held_out,
)
from training.recipes.affinity.table import read_table
from training.recipes.affinity.towers import Ensemble

READ, ALIGNED, TRAINED = 0.03, 0.18, 0.98  # fractions of the task when each is done
JUDGED_KERNELS = (
    2  # members for whose own pairs a kernel model is fitted to choose a blend
)
KEPT_ROWS = 2**22  # similarities of known proteins that a model carries, 16 MiB


def fit(params: AffinityParams, dataset: Path, context: Context) -> None:
    """Train on the CSV `dataset` and leave a model. Raises BadData, Problem and Stopped."""
    torch.set_num_threads(context.threads)
    context.progress(fraction=0.0, stage="reading")
    pairs = read_pairs(read_table(dataset, context), context)
    roles = assign_roles(pairs, params, context)
    cells, test = merge(pairs, roles == TRAIN), as_cells(pairs, roles == TEST)
    scale = find_scale(cells, params.floor)
    judge = Judge(test, scale, context)
    for name, values in trivial(cells, test.ligand, test.protein).items():
        judge.publish(name, values)
    ligands, words = compare_all(pairs, cells, params, context)
    context.progress(fraction=READ, stage="comparing")
    kernel = fit_kernel_of(ligands, words, cells, params.kernel_lambda, context)
    judge.publish("kernel_kmers", kernel_values(kernel, ligands, words, test))
    proteins = align_proteins(pairs, words, params, context, (READ, ALIGNED))
    if proteins is not words:
        kernel = fit_kernel_of(ligands, proteins, cells, params.kernel_lambda, context)
    judge.publish("kernel", kernel_values(kernel, ligands, proteins, test))

    rng = np.random.default_rng([params.seed, 4])
    ligand_inputs = find_inputs(ligands.rows[ligands.known], params.columns, rng)
    protein_inputs = find_inputs(proteins.rows[proteins.known], params.columns, rng)
    has_valid = bool((roles == VALID).any())
    lesson = Lesson(
        ligand_inputs.of(ligands.rows),
        protein_inputs.of(proteins.rows),
        cells,
        scale,
        _parts(cells, params, has_valid, context),
        as_cells(pairs, roles == VALID) if has_valid else None,
    )
    ensemble = train_ensemble(
        lesson,
        params,
        context,
        fingerprint=fingerprint(pairs, roles),
        fractions=(ALIGNED, TRAINED),
    )
    context.progress(fraction=TRAINED, stage="judging")
    blend = choose_blend(ensemble, lesson, ligands, proteins, kernel, params, context)
    members = scale.affinity(
        predict(ensemble, lesson.ligand_inputs, lesson.protein_inputs, test)
    )
    is_known = np.isin(test.ligand, ligands.known) & np.isin(
        test.protein, proteins.known
    )
    values, spread = combine(
        members,
        kernel_values(kernel, ligands, proteins, test),
        blend.weigh(is_known),
        scale,
    )
    figures = judge.conclude(values, spread, members.mean(0))
    _save(
        params,
        pairs,
        (ligands, ligand_inputs),
        (proteins, protein_inputs),
        (ensemble, kernel, scale, blend),
        {**figures, "rows": _counts(pairs, roles, cells)},
        proteins is not words,
        context,
    )
    context.progress(fraction=1.0, stage="done")


def as_cells(pairs: Pairs, chosen: NDArray[np.bool_]) -> Cells:
    """Rows as they were measured, each for itself."""
    ones = np.ones(int(chosen.sum()))
    return Cells(
        pairs.ligand[chosen], pairs.protein[chosen], pairs.affinity[chosen], ones
    )


def _parts(
    cells: Cells, params: AffinityParams, has_valid: bool, context: Context
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """What each member trains on: all, unless it sets a part aside."""
    if has_valid or params.validation_fraction == 0:
        return nothing_held_out(cells, params.members)
    split = params.split
    kind: Kind = "random" if split == "auto" or split == "given" else split
    parts = hold_out(
        kind, cells, params.validation_fraction, params.members, params.seed
    )
    if not parts[0][1].size:
        context.note("Too few pairs to set some aside; the loss judges in their place.")
    return parts


def fingerprint(pairs: Pairs, roles: NDArray[np.int8]) -> str:
    """A digest of the data and its split."""
    digest = hashlib.sha256("\n".join(pairs.ligands + pairs.proteins).encode())
    for array in (pairs.ligand, pairs.protein, pairs.affinity, roles):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _counts(pairs: Pairs, roles: NDArray[np.int8], cells: Cells) -> dict[str, int]:
    return {
        "training": int((roles == TRAIN).sum()),
        "training_pairs": len(cells.affinity),
        "validation": int((roles == VALID).sum()),
        "test": int((roles == TEST).sum()),
        "ligands": len(pairs.ligands),
        "proteins": len(pairs.proteins),
    }


def _save(
    params: AffinityParams,
    pairs: Pairs,
    ligand: tuple[Side, Inputs],
    protein: tuple[Side, Inputs],
    model: tuple[Ensemble, Kernel, Scale, Blend],
    metrics: dict[str, Any],
    is_aligned: bool,
    context: Context,
) -> None:
    ensemble, kernel, scale, blend = model
    tensors = {f"network.{k}": v for k, v in ensemble.state_dict().items()}
    tensors["kernel.coefficients"] = kernel.coefficients.float()
    for name, (side, inputs) in (("ligand", ligand), ("protein", protein)):
        places = np.searchsorted(side.known, side.references)
        tensors[f"{name}.references"] = torch.from_numpy(places)
        tensors[f"{name}.columns"] = inputs.columns
        tensors[f"{name}.centre"] = inputs.centre
    known = protein[0].rows[torch.from_numpy(protein[0].known)]
    if known.numel() <= KEPT_ROWS:
        tensors["protein.rows"] = known
    config = {
        "ligands": [pairs.ligands[n] for n in ligand[0].known],
        "proteins": [pairs.proteins[n] for n in protein[0].known],
        "deviations": {
            "ligand": ligand[1].deviation,
            "protein": protein[1].deviation,
        },
        "shape": vars(ensemble.shape),
        "scale": scale.as_dict(),
        "kernel_mean": kernel.mean,
        "blend": vars(blend),
        "protein_similarity": "alignment" if is_aligned else "kmers",
    }
    examples = [
        {"smiles": pairs.ligands[pairs.ligand[n]], "sequence": pairs.proteins[m]}
        for n, m in enumerate(pairs.protein[:3])
    ]
    save_bundle(
        context.output,
        recipe=NAME,
        params=params.model_dump(),
        tensors=tensors,
        config=config,
        signature={"inputs": INPUTS, "outputs": OUTPUTS, "examples": examples},
        metrics=metrics,
    )
