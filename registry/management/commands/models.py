from __future__ import annotations

import shutil
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from registry import imports, store, versions
from registry.addresses import check_alias, find, resolve
from registry.figures import compare, figures
from registry.intake import too_large
from registry.management.model_words import VERBS, whole
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse
from registry.models import Model, PromotionRule
from registry.serializers.model_history import (
    Comparison,
    EventSerializer,
    RuleRequest,
    RuleSerializer,
)
from registry.serializers.models import (
    ModelDetail,
    ModelSerializer,
    VersionSerializer,
)
from registry.views.model_files import archive_of
from registry.views.models import shown_models, shown_versions

SHOWN_METRICS = 4  # in one line
BY = "command line"


class Command(Base):
    help = (
        "List, show, import, export, delete and compare models; move aliases, set the rule "
        "that promotes. `models NAME` is short for `models show NAME`."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parse = parser.parse_args

        def parse_args(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
            return parse(whole(list(args or [])), namespace)

        parser.parse_args = parse_args  # type: ignore[method-assign,assignment]
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for name, text, arguments in VERBS:
            one = verbs.add_parser(name, help=text, description=text)
            for names, options in arguments:
                one.add_argument(*names, **options)
            one.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        if options["name"] is not None:
            self._show({**options, "model": options["name"]})
            return
        data: Any = ModelSerializer(shown_models(), many=True).data
        rows = [_row(one["latest"] or {"address": one["name"]}, one) for one in data]
        self._tell(options, data, COLUMNS, rows)

    def _show(self, options: dict[str, Any]) -> None:
        address = options["model"]
        if ":" in address or "@" in address:
            row = shown_versions().get(pk=resolve(address).pk)
            self.print_json(VersionSerializer(row).data)
            return
        data: Any = ModelDetail(shown_models().get(pk=find(address).pk)).data
        rows = [_row(version, data) for version in data["newest_versions"]]
        self._tell(options, data, COLUMNS, rows)

    def _history(self, options: dict[str, Any]) -> None:
        events = find(options["model"]).events.all()
        if options["alias"]:
            events = events.filter(alias=options["alias"])
        data: Any = EventSerializer(events[: options["limit"]], many=True).data
        names = ("at", "verb", "alias", "before", "after", "by", "text")
        rows = [[one[name] for name in names] for one in data]
        self._tell(options, data, [name.upper() for name in names], rows)

    def _import(self, options: dict[str, Any]) -> None:
        given, owner = Path(options["file"]), _user(options["owner"])
        if not given.is_file():
            raise WrongUse(f"There is no file {given}.")
        if given.stat().st_size > settings.ENVIRONMENT.model_limit:
            raise too_large(settings.ENVIRONMENT.model_limit)
        place = store.aside(".import")
        try:
            shutil.copyfile(given, place)
            name = imports.name_of(options["name"] or "", place)
            ready = imports.prepare(place, given.name, store.file_sha256(place))
            with transaction.atomic():
                version = imports.register(ready, name, owner, options["description"])
        finally:
            place.unlink(missing_ok=True)
        data = VersionSerializer(shown_versions().get(pk=version.pk)).data
        self._say(
            options, data, f"{version} was imported; its digest is {version.digest}."
        )

    def _export(self, options: dict[str, Any]) -> None:
        version = resolve(options["model"])
        label = f"{version.model.name}-{version.number}.tar"
        target = Path(options["output"] or label)
        try:
            with closing(archive_of(version)) as archive, target.open("xb") as file:
                for piece in archive:
                    file.write(piece)
        except FileExistsError:
            raise Failed(f"{target} is there already.") from None
        except (OSError, KeyboardInterrupt):
            target.unlink(missing_ok=True)
            raise
        data = {"model": str(version), "file": str(target), "digest": version.digest}
        self._say(options, data, f"{version} was written to {target}.")

    def _alias(self, options: dict[str, Any]) -> None:
        model, alias = find(options["model"]), options["alias"]
        if options["remove"] == (options["version"] is not None):
            raise WrongUse("Give the number of a version, or --remove.")
        if options["remove"]:
            row = model.aliases.filter(name=alias).first()
            if row is None:
                raise Failed(f"The model {model} has no alias {alias!r}.")
            model.remove(row, by=BY)
            self._say(options, {"alias": alias, "version": None}, f"{row} is gone.")
            return
        version = resolve(f"{model}:{options['version']}")
        row = model.point(check_alias(alias), version, by=BY)
        data = {"model": model.name, "alias": alias, "version": version.number}
        self._say(options, data, f"{row} is {version} now.")

    def _delete(self, options: dict[str, Any]) -> None:
        if ":" not in options["model"]:
            raise WrongUse("Name one version by its number, as in name:3.")
        version = resolve(options["model"])
        versions.delete(version, by=BY)
        self._say(options, {"deleted": str(version)}, f"{version} was deleted.")

    def _compare(self, options: dict[str, Any]) -> None:
        found = compare(resolve(options["model"]), resolve(options["other"]))
        data: Any = Comparison(found).data
        rows = [[name, *one.values()] for name, one in data["metrics"].items()]
        rows += [
            [f"params.{name}", one["version"], one["other"], None]
            for name, one in data["params"].items()
        ]
        columns = [
            "",
            data["version"]["address"],
            data["other"]["address"],
            "DIFFERENCE",
        ]
        self._tell(options, data, columns, rows)

    def _promote(self, options: dict[str, Any]) -> None:
        model = find(options["model"])
        if options["remove"]:
            model.remove_rule(by=BY)
        elif options["metric"] or options["direction"]:
            names = ("metric", "direction", "minimum_difference", "alias")
            given = {k: options[k] for k in names if options[k] is not None}
            asked = RuleRequest(data=given)
            if not asked.is_valid():
                told = asked.errors.items()
                raise WrongUse("; ".join(f"{name}: {text[0]}" for name, text in told))
            model.set_rule(by=BY, **asked.validated_data)
        rule = PromotionRule.objects.filter(model=model).first()
        data = {"promotion": None if rule is None else RuleSerializer(rule).data}
        self._say(options, data, _ruled(model, rule))

    def _tell(
        self, options: Any, data: Any, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        if options["json"]:
            self.print_json(data)
        else:
            self.print_table(columns, rows)

    def _say(self, options: dict[str, Any], data: Any, text: str) -> None:
        if options["json"]:
            self.print_json(data)
        else:
            self.stdout.write(text)


COLUMNS = ("VERSION", "RECIPE", "METRICS", "ALIASES", "MADE", "TASK")


def _user(name: str | None) -> User | None:
    found = User.objects.filter(username=name).first() if name else None
    if name and found is None:
        raise WrongUse(f"There is no user {name!r}.")
    return found


def _ruled(model: Model, rule: PromotionRule | None) -> str:
    if rule is None:
        return f"New versions of {model} take no alias by themselves."
    return f"New versions of {model} take an alias by themselves: {rule}."


def _row(version: dict[str, Any], model: dict[str, Any]) -> list[Any]:
    found = list(figures(version.get("metrics", {})).items())[:SHOWN_METRICS]
    aliases = version.get("aliases") or []
    made = str(version.get("created_at", model["created_at"]))
    return [
        version["address"],
        version.get("recipe", "no version any more"),
        " ".join(f"{name}={value:.4g}" for name, value in found),
        " ".join(f"@{name}" for name in aliases),
        made[:16].replace("T", " "),
        version.get("task"),
    ]
