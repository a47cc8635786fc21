"""Whether a new version takes an alias by itself, by one figure of its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.figures import figures

if TYPE_CHECKING:
    from registry.models import Model, ModelVersion, PromotionRule


def apply(model: Model, version: ModelVersion) -> None:
    """Let the model's rule, if it has one, move its alias to the new version, and say why or why not.

    Call it in the transaction that registers the version, with the model's row locked.
    """
    rule: PromotionRule | None = getattr(model, "rule", None)
    if rule is None:
        return
    rows = model.aliases.filter(name=rule.alias).select_related("version")
    alias = rows.first()
    champion = alias.version if alias else None
    before = champion.number if champion else None
    old = champion.metrics if champion else None
    is_better, text = decide(rule, version.metrics, old)
    if is_better and (against := _whose(rule, version, champion)):
        is_better, text = False, f"{text} {against}"
    text = f"{text[:1000]} The rule is: {rule}."
    by = rule.owner.get_username() if rule.owner else ""
    if is_better:
        model.point(rule.alias, version, by=by, why=text, verb="promote")
    else:
        model.note(
            "keep", alias=rule.alias, before=before, after=before, by=by,
            text=f"{version}: {text}",
        )  # fmt: skip


def decide(
    rule: PromotionRule, new: Mapping[str, Any], old: Mapping[str, Any] | None
) -> tuple[bool, str]:
    """Whether these metrics are better than those of the version that has the alias, and why.

    What is no finite number is never better, and nothing is better than it.
    """
    name = rule.metric
    value = figures(new).get(name)
    if value is None:
        return False, f"It has no finite {name}."
    if old is None:
        return True, f"{name} is {value:.6g}, and no version had the alias."
    before = figures(old).get(name)
    if before is None:
        return False, f"The version that has the alias has no finite {name}."
    gain = value - before if rule.direction == "higher" else before - value
    is_better = gain > 0 and gain >= rule.minimum_difference
    how = "better enough than" if is_better else "not better enough than"
    return is_better, f"{name} is {value:.6g}, {how} {before:.6g}."


def _whose(
    rule: PromotionRule, version: ModelVersion, champion: ModelVersion | None
) -> str:
    """What keeps the rule's owner from moving the alias; empty if nothing does."""
    owner = rule.owner
    if owner is None or owner.is_staff:
        return ""
    for one in (version, champion):
        if one is not None and one.owner_id != owner.pk:
            return f"But {one} is not of {owner.get_username()}, whose rule it is."
    return ""
