"""The verbs of `manage.py models` with what each takes."""

from __future__ import annotations

from typing import Any

from registry.models import PromotionRule

ADDRESS = "name, name:3 or name@alias"
Argument = tuple[tuple[str, ...], dict[str, Any]]
MODEL: Argument = (("model",), {"metavar": "NAME", "help": "the model's name"})
VERSION: Argument = (("model",), {"metavar": "MODEL", "help": ADDRESS})
REMOVE: Argument = (("--remove",), {"action": "store_true"})
VERBS: tuple[tuple[str, str, tuple[Argument, ...]], ...] = (
    ("list", "the models with their newest versions", (
        (("name",), {"nargs": "?", "help": "show this one"}),
    )),
    ("show", "the versions of a model, or all of one version", (VERSION,)),
    ("history", "what happened to a model, the newest first", (
        MODEL, (("--alias",), {"help": "of this alias alone"}),
        (("--limit",), {"type": int, "default": 50, "help": "entries; default 50"}),
    )),
    ("import", "register a model from an archive or an ONNX file", (
        (("file",), {"metavar": "FILE", "help": ".tar, .tar.gz, .zip or .onnx"}),
        (("--name",), {"help": "of the model; default that of the exported one"}),
        (("--description",), {"default": "", "help": "of a new model"}),
        (("--owner",), {"help": "a user's name; default nobody"}),
    )),
    ("export", "write a version as an archive", (
        VERSION, (("--output", "-o"), {"help": "file; default NAME-NUMBER.tar here"}),
    )),
    ("alias", "let an alias name a version, or remove it", (
        MODEL, (("alias",), {"metavar": "ALIAS"}),
        (("version",), {"nargs": "?", "type": int, "metavar": "NUMBER"}), REMOVE,
    )),
    ("delete", "delete a version that nobody uses", (VERSION,)),
    ("compare", "metrics and parameters of two versions", (
        VERSION, (("other",), {"metavar": "OTHER", "help": ADDRESS}),
    )),
    ("promote", "show, set or remove the rule by which new versions take an alias", (
        MODEL, (("--metric",), {"help": "as in rmse or test.rmse"}),
        (("--direction",), {"choices": PromotionRule.Direction.values}),
        (("--minimum-difference",), {"type": float}),
        (("--alias",), {"help": "default champion"}), REMOVE,
    )),
)  # fmt: skip
NAMES = {name for name, _, _ in VERBS}


def whole(args: list[str]) -> list[str]:
    """What was asked, with the verb that may be left out."""
    if args and (args[0] in NAMES or args[0] in ("-h", "--help", "--version")):
        return args
    return ["list" if not args or args[0].startswith("-") else "show", *args]
