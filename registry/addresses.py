"""How one model version is named: `name`, `name:3`, `name@champion`, `name@latest`."""

from __future__ import annotations

import re

from registry.errors import Problem
from registry.models import Model, ModelVersion

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}\Z")
ADDRESS = re.compile(
    r"(?P<name>[^:@]*)(?::(?P<number>[0-9]{1,9})|@(?P<alias>[^:@]*))?\Z"
)
LATEST = "latest"  # the highest number; computed, never stored
SHOWN = 20  # names in one sentence


def resolve(address: str) -> ModelVersion:
    """The version of that address; a bare name is its newest one.

    Raises Problem `unknown_model`, saying what there is, and `invalid` for what is no address.
    """
    match = parse(address)
    model = find(match["name"])
    versions = ModelVersion.objects.filter(model=model).select_related("model")
    if match["number"]:
        found = versions.filter(number=int(match["number"])).first()
        there = [str(number) for number in _numbers(model)]
        what, one = "versions", f"version {int(match['number'])}"
    elif match["alias"] is not None and match["alias"] != LATEST:
        found = versions.filter(aliases__name=match["alias"]).first()
        there = [LATEST, *model.aliases.values_list("name", flat=True)[:SHOWN]]
        what, one = "aliases", f"alias {match['alias'][:60]!r}"
    else:
        found, there = versions.order_by("-number").first(), []
        what, one = "versions", "version any more"
    if found is None:
        has = f"; it has the {what} {_listed(there)}" if there else ""
        raise unknown(f"The model {model.name} has no {one}{has}.")
    return found


def parse(address: str) -> re.Match[str]:
    """Its `name` with `number` or `alias`. Raises Problem `invalid` for what is no address."""
    match = ADDRESS.match(address)
    if match is None or not NAME.match(match["name"]):
        text = "a model is addressed as name, name:3 or name@alias"
        raise Problem("invalid", f"model: {text}.", errors={"model": [text]})
    return match


def find(name: str) -> Model:
    """The model of that name. Raises Problem `unknown_model`, saying which there are."""
    model = Model.objects.filter(name=name).first() if NAME.match(name) else None
    if model is None:
        there = _listed(list(Model.objects.values_list("name", flat=True)[: SHOWN + 1]))
        has = f"there are {there}" if there else "no model has been registered yet"
        raise unknown(f"There is no model {name[:100]!a}; {has}.")
    return model


def check_name(name: str) -> str:
    """The name itself if a model may have it. Raises Problem `invalid`."""
    if not NAME.match(name):
        text = (
            "1 to 100 letters, digits, dots, hyphens and underscores, "
            "the first a letter or digit"
        )
        raise Problem("invalid", f"model_name: {text}.", errors={"model_name": [text]})
    return name


def check_alias(alias: str) -> str:
    """The alias itself if it may be set. Raises Problem `invalid`."""
    text = ""
    if alias == LATEST:
        text = "latest always is the highest number and cannot be set"
    elif not ALIAS.match(alias):
        text = (
            "1 to 60 letters, digits, dots, hyphens and underscores, "
            "the first a letter or digit"
        )
    if text:
        raise Problem("invalid", f"alias: {text}.", errors={"alias": [text]})
    return alias


def unknown(detail: str) -> Problem:
    return Problem("unknown_model", detail, errors={"model": ["unknown"]})


def _numbers(model: Model) -> list[int]:
    newest = model.versions.order_by("-number").values_list("number", flat=True)
    return sorted(newest[: SHOWN + 1])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
