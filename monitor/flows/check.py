"""`tillwatch flow check`: what is wrong with flows, each with file and line, without running them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import tomli
from pydantic import ValidationError

from monitor import client, config_words, toml_lines
from monitor.client import CommandError
from monitor.command import show
from probes.checkout.inspection import LARGEST, Remark, inspect, step_names, uses
from probes.checkout.inspection_steps import inspect_steps
from probes.checkout.job import OFFERED
from probes.checkout.steps import DeclaredStep, unknown_names

PAYMENT = "payment"        # where a flow stops when its probe does not say


@dataclass(frozen=True, slots=True)
class Found:
    """A remark with its place."""

    file: str
    line: int
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.level}: {self.text}" if self.line else f"{self.file}: {self.level}: {self.text}"


def run(files: Sequence[Path], stop_before: str, *, as_json: bool) -> int:
    """Print all remarks; the exit code. Raises CommandError for a file that cannot be read."""
    found = list(dict.fromkeys(one for file in files for one in _of_file(file, stop_before)))
    bad = sum(one.level != "note" for one in found)
    if as_json:
        show({"ok": not bad, "remarks": [{"file": one.file, "line": one.line, "level": one.level, "text": one.text} for one in found]})
        return client.BAD if bad else 0
    for one in found:
        click.echo(str(one))
    click.echo(f"{', '.join(map(str, files))}: {config_words.counted(bad, 'remark') if bad else 'ok'}", err=bool(bad))
    return client.BAD if bad else 0


def _of_file(file: Path, stop_before: str) -> Iterator[Found]:
    text = _read(file)
    if file.suffix == ".toml":
        yield from _of_configuration(file, text)
        return
    yield from _placed(file, inspect(text, stop_before))
    if names := step_names(text):
        click.echo(f"{file}: {' → '.join(names)}", err=True)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(LARGEST + 1).decode("utf-8-sig")
    except OSError as error:
        raise CommandError(client.USAGE, f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(client.USAGE, f"{file}: is not UTF-8 text") from None


def _placed(file: Path, remarks: Sequence[Remark]) -> Iterator[Found]:
    return (Found(str(file), remark.line, remark.level, remark.text) for remark in remarks)


# ---- the checkout probes of a configuration --------------------------------------------------------------------------


def _of_configuration(file: Path, text: str) -> Iterator[Found]:
    try:
        raw, lines = tomli.loads(text), toml_lines.find(text)
    except tomli.TOMLDecodeError as error:
        raise CommandError(client.USAGE, f"{file}:{error.lineno}: is not valid TOML: {config_words.of_toml(error.msg)}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(client.USAGE, f"{file}: is not valid TOML: {error}") from None
    tables = raw.get("probe")
    probes = [(number, probe) for number, probe in enumerate(tables if isinstance(tables, list) else [])
              if isinstance(probe, dict) and probe.get("kind") == "checkout"]
    if not probes:
        raise CommandError(client.USAGE, f'{file}: has no [[probe]] of kind = "checkout"')
    for number, probe in probes:
        yield from _of_probe(file, probe, lambda path, number=number: toml_lines.line(lines, ("probe", number, *path)))


def _of_probe(file: Path, probe: Mapping[str, Any], line: Any) -> Iterator[Found]:
    stop, flow, steps = probe.get("stop_before", PAYMENT), probe.get("flow"), probe.get("step")
    variables, secrets = [*OFFERED, *_keys(probe, "variables")], _keys(probe, "secrets")
    if isinstance(flow, str):
        path = file.parent / flow
        text = _read(path)
        yield from _placed(path, inspect(text, str(stop)))
        for at, secret, name in uses(text):
            if name not in (secrets if secret else variables):
                kind = "secret" if secret else "variable"
                yield Found(str(path), at, "error", f'there is no {kind} "{name}": add it to {kind}s of the probe in {file}')
    elif isinstance(steps, list):
        yield from _of_steps(file, steps, str(stop), (variables, secrets), line)
    else:
        yield Found(str(file), line(()), "error", 'the probe has no flow: give flow = "FILE", or [[probe.step]] tables')


def _keys(probe: Mapping[str, Any], name: str) -> list[str]:
    table = probe.get(name)
    return list(table) if isinstance(table, dict) else []


def _of_steps(file: Path, raw: Sequence[Any], stop: str, names: tuple[Sequence[str], Sequence[str]], line: Any) -> Iterator[Found]:
    steps, wrong = [], False
    for number, table in enumerate(raw):
        try:
            steps.append(DeclaredStep.model_validate(table))
        except ValidationError as error:
            wrong = True
            for path, words in config_words.problems(error.errors(), DeclaredStep, table):
                yield Found(str(file), line(("step", number, *path)), "error", f"{_label(path)}{words}")
    if wrong:
        return                           # what else is to be said would mostly follow from that
    for remark in inspect_steps(steps, stop):
        yield Found(str(file), line(("step", *remark.path)), remark.level, remark.text)
    for words in unknown_names(steps, *names):
        yield Found(str(file), line(("step",)), "error", words)


def _label(path: Sequence[str | int]) -> str:
    named = [str(part) for part in path if isinstance(part, str)]
    return f"{named[-1]}: " if named else ""
