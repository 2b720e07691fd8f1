"""The docs are true: everything that has a name in the product has its words, and every word names something that exists."""

import base64
import hashlib
import hmac
import json
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast, get_args

import click
import pytest
from prometheus_client import parser
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monitor import client, config
from monitor.alerts import webhook
from monitor.alerts.delivery import Message
from monitor.alerts.page import Delivery, Facts, ShopFacts, compose
from monitor.alerts.table import RECEIVERS
from monitor.cli import main_group
from monitor.exporter import FACTS, LOGGED, PHASES, Exporter
from monitor.incidents import Incident
from monitor.judge.explain import SignalRuling
from monitor.judge.ruling import REASONS as RULINGS
from monitor.updates import Update
from monitor.web import openapi
from monitor.web.api import Api
from monitor.web.artifacts import ArtifactPages
from monitor.web.operate import Operate
from monitor.web.pages import Pages
from monitor.web.probe import OnDemand
from monitor.web.problems import _TITLES
from probes.fields import Secret, Table, parse_duration, parse_size
from probes.reasons import REASONS, outcome
from probes.sample import Outcome, Sample
from probes.table import PROBES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *(path for path in ROOT.glob("*.md"))])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for info, body in FENCE.findall(text) if info.strip() == language]


def sections(text: str) -> dict[str, str]:
    """Heading -> the text until the next heading of any depth."""
    text = FENCE.sub(lambda block: block[0].replace("\n#", "\n\\#"), text)
    parts = list(HEADING.finditer(text))
    ends = [part.start() for part in parts[1:]] + [len(text)]
    return {part[2]: text[part.end():end] for part, end in zip(parts, ends, strict=True)}


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in a text by the names in code type in their first cell."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            cells = [cell.replace(r"\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                assert name not in found, f"{name} stands there twice"
                found[name] = cells
    return found


# ---- settings --------------------------------------------------------------------------------------------------------

TABLES: dict[str, type[BaseModel]] = {
    "`[shop]`": config.ShopSettings, "`[daemon]`": config.DaemonSettings, "`[web]`": config.WebSettings, "`[[token]]`": config.TokenSettings,
    "`[browser]`": config.BrowserSettings,
    "`[defaults]`": config.Defaults, "`[heartbeat]`": config.HeartbeatSettings, "`[update]`": config.UpdateSettings,
}


def nested(field: FieldInfo) -> type[Table] | None:
    """The table that a field holds, if it holds one."""
    def types(annotation: Any) -> Iterator[Any]:
        yield annotation
        for argument in get_args(annotation):
            yield from types(argument)
    found = (t for t in types(field.annotation) if isinstance(t, type) and issubclass(t, Table) and t is not Secret)
    return next(found, None)


def above(heading: str) -> str:
    """What stands before the dot in the heading of a table inside the tables of `heading`."""
    if "robe" in heading:
        return "probe"
    return re.findall(r"\w+", heading)[-1]


def documented() -> dict[str, tuple[type[BaseModel], set[str]]]:
    """Every heading that docs/configuration.md must have: its settings, and the keys that it need not repeat."""
    every_probe = set(config.Probe.model_fields) - {"url"}
    every_receiver = {"name", "kind", "on", "urgency", "runbook", "fallback", "remind"}
    found: dict[str, tuple[type[BaseModel], set[str]]] = {heading: (model, set()) for heading, model in TABLES.items()}
    found["Every kind of probe"] = (config.Probe, set())
    found |= {f"Probes of kind `{kind}`": (config.probe_model(kind), every_probe) for kind in PROBES}
    found |= {f"Receivers of kind `{kind}`": (RECEIVERS[kind].settings, every_receiver) for kind in RECEIVERS}
    first = next(iter(RECEIVERS.values())).settings
    found["Every kind of receiver"] = (first, set(first.model_fields) - every_receiver)
    for heading, (model, skipped) in list(found.items()):
        for name, field in model.model_fields.items():
            table = nested(field)
            if table and name not in {*skipped, "margin"}:
                found[f"`{above(heading)}.{field.alias or name}`"] = (table, set())
    found["`update.margin`"] = (config.Margin, set())
    return found


DOCUMENTED = documented()


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_every_setting_is_documented_and_no_other(heading: str) -> None:
    model, skipped = DOCUMENTED[heading]
    keys = {field.alias or name for name, field in model.model_fields.items() if name not in skipped}
    assert set(rows(sections(page("configuration.md"))[heading])) == keys


def test_every_table_of_settings_belongs_to_a_known_heading() -> None:
    with_keys = {heading for heading, text in sections(page("configuration.md")).items() if "| key | type | default | meaning |" in text}
    assert with_keys == DOCUMENTED.keys()


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_defaults_are_those_of_the_code(heading: str) -> None:
    model, skipped = DOCUMENTED[heading]
    told = rows(sections(page("configuration.md"))[heading])
    for name, field in model.model_fields.items():
        if name in skipped or nested(field):
            continue
        cell, default = told[field.alias or name][2], field.get_default(call_default_factory=True)
        if (heading, name) == ("`[daemon]`", "state_dir"):          # config.load fills it in
            assert cell == '`"state"`'
        elif field.is_required():
            assert cell == "required", name
        elif default is None:
            assert cell == "none", name
        else:
            assert written(field, cell.strip("`")) == (list(default) if isinstance(default, tuple) else default), name


def written(field: FieldInfo, text: str) -> Any:
    """The value that a default has as it is written in the docs."""
    value = tomllib.loads(f"x = {text}")["x"]
    functions = {getattr(part, "func", None) for part in field.metadata}
    if isinstance(value, str) and parse_duration in functions:
        return parse_duration(value)
    if isinstance(value, str) and "Duration" in repr(field.annotation) + repr(functions) and value != "auto":
        return parse_duration(value)
    return parse_size(value) if isinstance(value, str) and parse_size in functions else value


def descriptions() -> Iterator[tuple[str, FieldInfo]]:
    for heading, (model, skipped) in DOCUMENTED.items():
        yield from ((f"{heading} {name}", field) for name, field in model.model_fields.items() if name not in {*skipped, "kind"})


def test_every_setting_has_a_description_for_editors() -> None:
    assert [name for name, field in descriptions() if not field.description] == []


# ---- metrics ---------------------------------------------------------------------------------------------------------


async def exposed() -> str:
    """The exposition of a daemon that has seen everything."""
    signal = {"probe": "pay", "signal": "success", "evidence": 1.0, "ratio": 1.0, "ratio_lower": 0.5, "ratio_upper": 2.0}
    exporter = Exporter("shop", [("pay", "", "")])
    measured = {"facts": {key: 1.0 for _, key in FACTS.values()}, "values": dict.fromkeys(PHASES, 0.1),
                "counts": {name: 1 for _, names in LOGGED.values() for name in names}}
    exporter.observe(Sample("pay", Outcome.FAILED, reason="status", seconds=0.5, **cast("Any", measured)))
    exporter.update(Update("2026-11-24-1", "2.0", 1.0, "ci", finished=2.0, ruling={"signals": [signal]}))
    own = exporter.own
    own.paged("outage")
    own.attempted("mail", "delivered", 1.0)
    own.waiting({"mail": (1, 2.0)})
    exporter.incidents([Incident("i", "outage", "c", "page", 1.0, 1.0)])
    return b"".join([part async for part in exporter.render(_nothing, open_metrics=False)]).decode()


async def _nothing() -> None:
    return None


async def test_every_metric_is_documented_and_no_other() -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", await exposed(), re.MULTILINE))
    assert {name: cells[1] for name, cells in metric_rows().items()} == types


async def test_labels_of_metrics_are_those_of_the_docs() -> None:
    told = {name: {label.strip() for label in cells[2].split(",") if label.strip()} for name, cells in metric_rows().items()}
    for family in parser.text_string_to_metric_families(await exposed()):
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            labels = set(sample.labels) - {"shop", "le"}
            if {"device", "cohort", "location"} <= labels:
                labels -= {"device", "cohort", "location"}
            assert labels == told[name], sample.name


def metric_rows() -> dict[str, list[str]]:
    text = page("metrics.md")
    return rows("".join(body for heading, body in sections(text).items() if heading != "Labels"))


@pytest.mark.parametrize("query", blocks(page("metrics.md"), "promql"))
def test_queries_name_metrics_that_exist(query: str) -> None:
    bare = re.sub(r"by \([^)]*\)|on \([^)]*\)|\{[^}]*\}", "", query)
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\b(?:probe|tillwatch)_\w+", bare)}
    assert named or query.startswith("up{")
    assert named <= metric_rows().keys()


# ---- reasons, verbs, routes ------------------------------------------------------------------------------------------


def test_every_reason_of_a_probe_is_documented_with_whose_fault_it_is() -> None:
    told = {name: cells[1] for text in reason_sections(rulings=False) for name, cells in rows(text).items()}
    assert told == {reason: outcome(reason).value for reason in REASONS}


def test_every_reason_of_a_ruling_is_documented() -> None:
    told = {name for text in reason_sections(rulings=True) for name in rows(text)}
    assert told == RULINGS.keys()


def reason_sections(*, rulings: bool) -> list[str]:
    return [text for heading, text in sections(page("reasons.md")).items() if (heading == "Reasons of a ruling") is rulings]


def verbs() -> dict[str, click.Command]:
    def below(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                yield from below(child, f"{words} {name}")
        else:
            yield words, command
    return dict(below(main_group, "tillwatch"))


def options(command: click.Command) -> set[str]:
    return {max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)} - {"--help"}


def test_every_verb_is_documented_and_no_other() -> None:
    told = {heading.strip("`") for heading in sections(page("cli.md")) if heading.startswith("`tillwatch ")}
    assert told == verbs().keys()


@pytest.mark.parametrize("verb", ["tillwatch", *verbs()])
def test_every_option_is_documented_and_no_other(verb: str) -> None:
    command = main_group if verb == "tillwatch" else verbs()[verb]
    heading = "Command line" if verb == "tillwatch" else f"`{verb}`"
    told = {option for name in rows(sections(page("cli.md"))[heading]) for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", name)}
    known = {option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts}
    assert options(command) | ({"--help"} if verb == "tillwatch" else set()) <= told
    assert told <= known | {"-h", "--help"}


def test_every_exit_code_is_documented() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", sections(page("cli.md"))["Exit codes"], re.MULTILINE)}
    codes = {getattr(client, name) for name in (
        "BAD", "USAGE", "REFUSED", "INCONCLUSIVE", "UNREACHABLE", "UNAUTHORISED", "WRONG_PHASE", "UNEXPECTED", "TIMED_OUT", "INTERRUPTED")}
    assert told == codes | {0}


def routes() -> set[str]:
    nothing = cast("Any", None)
    api = Api(store=nothing, exporter=nothing, operations=nothing, guard=nothing, clock=nothing, status=nothing, targets=nothing, shop="",
              reload=nothing)
    operate = Operate(casebook=nothing, silences=nothing, store=nothing, guard=nothing, clock=nothing)
    pages = Pages(store=nothing, operations=nothing, guard=nothing, clock=nothing, insight=nothing)
    found = set()
    for route in (*api.routes(), *operate.routes(), *OnDemand(nothing, nothing, nothing).routes(), *pages.routes(),
                  *ArtifactPages(nothing, nothing).routes(), *openapi.routes()):
        choice = re.search(r"\{\w+:([\w|]+)\}", route.path)
        paths = [route.path.replace(choice[0], word) for word in choice[1].split("|")] if choice else [route.path]
        found |= {f"{route.method} {path}" for path in paths}
    return found


def test_every_route_is_documented_and_no_other() -> None:
    assert {heading.strip("`") for heading in sections(page("api.md")) if re.match(r"`(GET|POST|PUT|DELETE) ", heading)} == routes()


def test_every_code_of_a_problem_is_documented_with_its_exit_code() -> None:
    lines = re.findall(r"^\| (\d+) \| `(\w+)` \|.*\| (\d+) \|$", sections(page("api.md"))["Errors"], re.MULTILINE)
    assert {(int(status), code) for status, code, _ in lines} == set(_TITLES.items())
    assert {int(status): int(code) for status, _, code in lines} == {s: client._CODES.get(s, client.UNEXPECTED) for s in _TITLES}


def test_a_signal_is_documented_field_by_field() -> None:
    assert rows(sections(page("api.md"))["A signal"]).keys() == {field.name for field in fields(SignalRuling)}


# ---- links and examples ----------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in sections(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        link = next(filter(None, target))
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found), link


def examples(language: str) -> list[Any]:
    return [pytest.param(block, id=f"{path.stem}-{number}") for path in PAGES
            for number, block in enumerate(blocks(path.read_text(encoding="utf-8"), language), 1)]


@pytest.mark.parametrize("text", examples("toml"))
def test_complete_configurations_are_taken(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    assert config.load(path).probe


@pytest.mark.parametrize("text", examples("toml fragment"))
def test_fragments_are_taken_once_they_are_whole(text: str, tmp_path: Path) -> None:
    raw = tomllib.loads(text)
    lead = "" if "shop" in raw else '[shop]\nname = "s"\nurl = "https://shop.example"\n'
    tail = "" if "probe" in raw else '\n[[probe]]\nname = "p"\nkind = "http"\nurl = "https://shop.example/"\n'
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(lead + text + tail, encoding="utf-8")
    assert config.load(path).probe


@pytest.mark.parametrize("text", examples("json"))
def test_json_is_json(text: str) -> None:
    json.loads(text)


def test_the_shipped_configuration_is_taken() -> None:
    assert config.load(ROOT / "config.toml").probe


def test_the_signature_of_a_webhook_is_verified_as_the_docs_do_it() -> None:
    example = blocks(page("alerts.md"), "python")[0]
    assert len(example.strip().splitlines()) <= 10
    space: dict[str, Any] = {}
    exec(example, space)  # the example itself
    secret, body, at = "whsec_dGlsbHdhdGNoLXRpbGx3YXRjaA==", b'{"type":"test"}', str(int(time.time()))
    mac = hmac.digest(webhook._key(secret), b".".join((b"msg_1", at.encode(), body)), hashlib.sha256)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": "v1,AAAA v1," + base64.b64encode(mac).decode()}
    assert space["verified"](headers, body, secret)
    assert not space["verified"](headers, body + b" ", secret)
    assert not space["verified"](headers | {"webhook-timestamp": "1"}, body, secret)


def test_the_example_of_a_webhook_has_the_fields_of_a_real_one() -> None:
    example = json.loads(sections(page("alerts.md"))["Webhook"].split("```json")[1].split("```")[0])
    incident = Incident("i", "regression", "update:u", "page", 1.0, 1.0, "u", "2.0")
    made = compose(incident, Facts(ShopFacts("s", "https://shop.example")), Delivery(), 2.0)
    real = json.loads(webhook.body(Message("m", "firing", incident, made)))
    assert example.keys() == real.keys()
    assert real["data"].keys() <= example["data"].keys()


def test_no_page_is_a_stranger() -> None:
    """Every page of docs/ is linked from another one."""
    linked = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [path.name for path in ROOT.glob("docs/*.md") if f"{path.name})" not in linked and f"{path.name}#" not in linked] == []
