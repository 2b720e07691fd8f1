"""config.toml -> frozen settings: parsed once, every problem at once, each with its file, line and key path."""

import difflib
import ipaddress
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import tomli
from pydantic import BaseModel, Field, ValidationError, create_model

from monitor import toml_lines
from monitor.alerts.table import RECEIVERS, ReceiverSettings
from monitor.health import Rule
from monitor.judge.signals import Margin
from monitor.scheduler import Concurrency, Schedule
from monitor.updates import UpdateSettings
from monitor.web.settings import TokenSettings, WebSettings
from probes.fields import ConfigPath, Duration, Named, Secret, SecretError, Table, show_duration
from probes.table import PROBES

M = TypeVar("M", bound=BaseModel)


class ShopSettings(Table):
    """[shop]"""

    name: str = Field(min_length=1, max_length=64, description="label `shop` on every metric and alert")
    url: str = Field(pattern=r"^https?://[^\s]+$", description="the shop's front page")
    environment: str = Field(default="production", max_length=64)
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")


class DaemonSettings(Table):
    """[daemon]"""

    state_dir: ConfigPath = Field(description="SQLite, artifacts, the CLI's token; relative to this file")
    log_format: Literal["auto", "json", "console"] = "auto"
    retention: Duration = Field(default=30 * 86400.0, ge=3600, description="samples older than this are deleted")
    max_concurrency: Concurrency = Concurrency()


class Probe(Named, Schedule, Rule):
    """What every [[probe]] has, whatever its kind."""

    kind: str
    critical: bool = Field(default=False, description="judged first; must be ruled clean before an update can PASS")
    control: bool = Field(default=False, description="a reference that the update cannot touch")
    margin: Margin | None = Field(default=None, description="what counts as worse for this probe")
    means: str = Field(default="", max_length=120, description='what its failing means to customers, such as "customers cannot pay"')


class Defaults(Schedule, Rule):
    """[defaults]: for every probe, overridden by the probe."""

    timeout: Duration = Field(default=10.0, ge=0.01, description="a run ends no later than this")


class Config(Table):
    """The whole configuration. Only the composition root and the command line see it; each room gets its own part."""

    path: Path
    shop: ShopSettings
    daemon: DaemonSettings
    web: WebSettings = WebSettings()
    token: tuple[TokenSettings, ...] = ()
    update: UpdateSettings = UpdateSettings()
    probe: tuple[Probe, ...] = ()
    receiver: tuple[ReceiverSettings, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration. `path` is the key path, such as probe[0].expect.status."""

    file: str
    line: int
    path: str
    label: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.label}: {self.message}" if self.label else f"{where}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@cache
def probe_model(kind: str) -> type[Probe]:
    """The settings of one kind of probe: what every probe has, and the kind's own."""
    bases: Any = (PROBES[kind].settings, Probe)
    own: Any = Literal[kind]
    return cast("type[Probe]", create_model(f"{kind}_probe", __base__=bases, kind=(own, ...)))


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with every problem at once."""
    try:
        text = path.read_bytes().decode("utf-8")
        raw = tomli.loads(text)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), line, "", "", "is not UTF-8 text")]) from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), error.lineno, "", "", f"is not valid TOML: {error.msg}")]) from None
    return _Reader(path, raw, toml_lines.find(text)).config()


class _Reader:
    """Gathers problems while the tables are checked one by one."""

    def __init__(self, path: Path, raw: dict[str, Any], lines: Mapping[toml_lines.Path, int]) -> None:
        self.path, self.raw, self.lines = path, raw, lines
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def config(self) -> Config:
        self._unknown_tables()
        defaults = self._defaults()
        tables: dict[str, Any] = {name: self._table(name) for name in ("shop", "daemon", "web", "update")}
        tables["probe"] = tuple(filter(None, (self._probe(i, p, defaults) for i, p in enumerate(self._array("probe")))))
        tables["receiver"] = tuple(filter(None, (self._receiver(i, r) for i, r in enumerate(self._array("receiver")))))
        tables["token"] = tuple(filter(None, (self._model(TokenSettings, t, ("token", i)) for i, t in enumerate(self._array("token")))))
        self._names()
        self._secrets()
        if not self._array("probe") and not self.problems:
            self._add((), "there is no [[probe]]: nothing would be watched")
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))
        config = Config.model_construct(path=self.path, warnings=(), **tables)
        self._across(config)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))
        return config.model_copy(update={"warnings": tuple(self.warnings)})

    def _unknown_tables(self) -> None:
        known = ("shop", "daemon", "web", "token", "defaults", "probe", "receiver", "update")
        for name, value in self.raw.items():
            if name not in known:
                self._add((name,), "unknown table" if isinstance(value, dict | list) else "unknown key", _did_you_mean(name, known))

    def _array(self, name: str) -> list[Any]:
        value = self.raw.get(name, [])
        if isinstance(value, list):
            return value
        if not any(p.path == name for p in self.problems):
            self._add((name,), f"write [[{name}]] with two brackets: there can be several")
        return []

    def _table(self, name: str) -> Any:
        models: dict[str, type[Table]] = {"shop": ShopSettings, "daemon": DaemonSettings, "web": WebSettings, "update": UpdateSettings}
        raw = self.raw.get(name, {})
        if name == "daemon" and isinstance(raw, dict):
            raw = {"state_dir": "state"} | raw
        return self._model(models[name], raw, (name,))

    def _defaults(self) -> dict[str, Any]:
        """The keys of [defaults] that are right; what is wrong there is said once, not at every probe."""
        raw = self.raw.get("defaults", {})
        before = len(self.problems)
        self._model(Defaults, raw, ("defaults",))
        wrong = {p.path.split(".")[1] for p in self.problems[before:] if "." in p.path}
        return {k: v for k, v in raw.items() if k not in wrong} if isinstance(raw, dict) else {}

    def _probe(self, index: int, raw: Any, defaults: Mapping[str, Any]) -> Probe | None:
        if not self._has_kind(raw, ("probe", index), PROBES):
            return None
        probe = self._model(probe_model(raw["kind"]), {**defaults, **raw}, ("probe", index))
        if probe and probe.interval < probe.timeout:
            inherited = "" if "timeout" in raw else " (the default)"
            shown = f"{show_duration(probe.interval)} is shorter than the timeout {show_duration(probe.timeout)}{inherited}"
            self._add(("probe", index, "interval"), shown)
        return probe

    def _receiver(self, index: int, raw: Any) -> ReceiverSettings | None:
        if not self._has_kind(raw, ("receiver", index), RECEIVERS):
            return None
        return self._model(RECEIVERS[raw["kind"]].settings, raw, ("receiver", index))

    def _has_kind(self, raw: Any, at: toml_lines.Path, table: Mapping[str, object]) -> bool:
        if not isinstance(raw, dict):
            self._add(at, "must be a table")
        elif "kind" not in raw:
            self._add((*at, "kind"), f"is required: one of {_quoted(table)}")
        elif raw["kind"] not in table:
            self._add((*at, "kind"), f'there is no kind "{raw["kind"]}"', _did_you_mean(str(raw["kind"]), table), f"; known are {_quoted(table)}")
        else:
            return True
        return False

    def _model(self, model: type[M], raw: Any, at: toml_lines.Path) -> M | None:
        try:
            return model.model_validate(raw, context={"base": self.path.parent})
        except ValidationError as error:
            for details in error.errors(include_url=False):
                location = tuple(part for part in details["loc"] if part != "inline")
                self._add((*at, *location), _words(details, model, location))
            return None

    def _names(self) -> None:
        for table in ("probe", "receiver", "token"):
            named = [r.get("name") for r in self._array(table) if isinstance(r, dict)]
            for name, times in Counter(n for n in named if isinstance(n, str)).items():
                if times > 1:
                    index = len(named) - 1 - named[::-1].index(name)
                    self._add((table, index, "name"), f'another {table} is called "{name}" already')

    def _secrets(self) -> None:
        """An inline secret in a file that others can read is no secret."""
        if self.path.stat().st_mode & stat.S_IROTH:
            for where in _inline_secrets(self.raw):
                self._add(where, f"a secret stands here, and everybody on this host can read {self.path.name}: chmod o-r it, or write ",
                          '{ env = "NAME" }, { file = "path" } or { credential = "name" }')

    def _across(self, config: Config) -> None:
        self._listen(config.web)
        plain = {(p.kind, getattr(p, "url", "")) for p in config.probe if not p.cohort}
        for index, probe in enumerate(config.probe):
            if probe.cohort and (probe.kind, getattr(probe, "url", "")) not in plain:
                self._add(("probe", index, "cohort"), f'"{probe.cohort}" has no control cohort: ',
                          "add a probe of the same kind and url without a cohort")
            if probe.critical and probe.control:
                self._add(("probe", index, "control"), "a control probe cannot be critical: the update cannot touch it")
        for where, secret in secrets(config):
            try:
                secret.reveal()
            except SecretError as error:
                self.warnings.append(f"{where}: {error}")

    def _listen(self, web: WebSettings) -> None:
        host = web.listen.rpartition(":")[0].strip("[]")
        if not web.tls and host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            self._add(("web", "listen"), f"{host} can be reached from other hosts: ",
                      "set tls = { cert_file, key_file }, or listen on 127.0.0.1 behind a reverse proxy")

    def _add(self, path: toml_lines.Path, *message: str) -> None:
        dotted = re.sub(r"\.\[", "[", ".".join(f"[{p}]" if isinstance(p, int) else p for p in path))
        self.problems.append(Problem(str(self.path), toml_lines.line(self.lines, path), dotted, self._label(path), "".join(message)))

    def _label(self, path: toml_lines.Path) -> str:
        """The path with the name of the probe or receiver in place of its number."""
        if len(path) < 2 or not isinstance(path[1], int):
            return ".".join(map(str, path))
        table = self.raw.get(str(path[0]))
        raw = table[path[1]] if isinstance(table, list) else {}
        name = raw.get("name") if isinstance(raw, dict) else None
        head = f'{path[0]} "{name}"' if isinstance(name, str) else f"{path[0]} {path[1] + 1}"
        return ": ".join(filter(None, (head, ".".join(map(str, path[2:])))))


def secrets(config: Config) -> Iterator[tuple[str, Secret]]:
    """Every secret of the configuration, with the name of its place."""
    for table in ("probe", "receiver", "token"):
        for item in getattr(config, table):
            yield from _secrets_in(item, f'{table} "{item.name}"')


def _secrets_in(value: Any, where: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(value, Secret):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name), f"{where}: {name}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets_in(item, f"{where}.{name}")
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets_in(item, where)


_SECRET_KEYS = {"password", "bearer_token", "routing_key", "secret", "token", "value"}


def _inline_secrets(raw: Mapping[str, Any], at: toml_lines.Path = ()) -> Iterator[toml_lines.Path]:
    for key, value in raw.items():
        if key in _SECRET_KEYS and isinstance(value, str) and at:
            yield (*at, key)
        elif isinstance(value, dict):
            yield from _inline_secrets(value, (*at, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _inline_secrets(item, (*at, key, index))


_NOUNS = {
    "string_type": "must be a string", "int_type": "must be a whole number", "float_type": "must be a number", "bool_type": "must be true or false",
    "tuple_type": "must be an array", "list_type": "must be an array", "dict_type": "must be a table", "model_type": "must be a table",
    "model_attributes_type": "must be a table", "mapping_type": "must be a table", "string_too_short": "must not be empty",
}


def _words(details: Any, model: type[BaseModel], location: tuple[Any, ...]) -> str:
    """A validation error as a person would say it."""
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "unknown key" + _did_you_mean(str(location[-1]), _keys_at(model, location[:-1]))
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"must be one of {_quoted(known)}, not {_shown(value)}" + _did_you_mean(str(value), known)
    if kind in _NOUNS:
        return f"{_NOUNS[kind]}, not {_shown(value)}" if kind != "string_too_short" else _NOUNS[kind]
    if kind == "value_error":
        return str(context["error"])
    text = str(details["msg"]).removeprefix("Input ")
    return f"{text}, not {_shown(value)}" if isinstance(value, str | int | float) else text


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else str(value)


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        nested = [t for t in _types(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)] if field else []
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _types(argument)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def schema() -> dict[str, Any]:
    """The JSON Schema of config.toml, for editors."""
    parts: dict[str, Any] = {"shop": ShopSettings, "daemon": DaemonSettings, "web": WebSettings, "update": UpdateSettings, "defaults": Defaults}
    properties = {name: model.model_json_schema() for name, model in parts.items()}
    properties["daemon"]["required"] = []
    arrays: dict[str, list[type[BaseModel]]] = {
        "probe": [probe_model(kind) for kind in PROBES], "receiver": [kind.settings for kind in RECEIVERS.values()], "token": [TokenSettings]}
    for name, models in arrays.items():
        properties[name] = {"type": "array", "items": {"anyOf": [model.model_json_schema() for model in models]}}
    definitions: dict[str, Any] = {}
    _lift_definitions(properties, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tillwatch configuration", "type": "object",
        "properties": properties, "required": ["shop", "probe"], "additionalProperties": False, "$defs": definitions,
    }


def _lift_definitions(value: Any, into: dict[str, Any]) -> None:
    """Bring nested "$defs" to the root, where their references point."""
    if isinstance(value, dict):
        for name, definition in value.pop("$defs", {}).items():
            _lift_definitions(definition, into)
            into[name] = definition
        for item in value.values():
            _lift_definitions(item, into)
    elif isinstance(value, list):
        for item in value:
            _lift_definitions(item, into)
