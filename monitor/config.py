"""config.toml -> frozen settings: parsed once, every problem at once, each with its file, line and key path."""

import errno
import ipaddress
import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import tomli
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from monitor import config_words, tls_files, toml_lines
from monitor.alerts.table import RECEIVERS, ReceiverSettings
from monitor.config_warnings import warnings
from monitor.config_words import did_you_mean, quoted
from monitor.heartbeat import HeartbeatSettings
from monitor.json_schema import standard
from monitor.judge.signals import Margin
from monitor.settings import ARRAYS, Config, DaemonSettings, Defaults, Probe, ShopSettings, open_to_all, probe_model, secrets
from monitor.updates import UpdateSettings
from monitor.web.settings import TokenSettings, WebSettings
from probes.checkout.settings import BrowserSettings
from probes.fields import Secret, Table, parse_duration, show_duration
from probes.table import PROBES

__all__ = [
    "Config", "ConfigError", "DaemonSettings", "Defaults", "HeartbeatSettings", "Margin", "Probe", "Problem", "ShopSettings", "TokenSettings",
    "UpdateSettings", "WebSettings", "load", "probe_model", "schema", "secrets",
]

M = TypeVar("M", bound=BaseModel)
LARGEST = 10_000_000      # bytes of a configuration: a thousand probes take 300 kB


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


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with every problem at once."""
    try:
        data = _bytes(path)
        text = data.decode("utf-8-sig")          # Windows' editors put a byte order mark in front
        raw, lines = tomli.loads(text), toml_lines.find(text)
    except OSError as error:
        line, message = 0, f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line, message = data[: error.start].count(b"\n") + 1, "is not UTF-8 text: save it as UTF-8"
    except tomli.TOMLDecodeError as error:
        line, message = error.lineno, f"is not valid TOML: {config_words.of_toml(error.msg)} (column {error.colno})"
    except RecursionError:
        line, message = 0, "is nested too deeply: no configuration needs that"
    except ValueError:                           # Python's int() takes 4300
        line, message = 0, "holds a number of too many digits"
    else:
        return _Reader(path, raw, lines).config()
    raise ConfigError([Problem(str(path), line, "", "", message)])


def _bytes(path: Path) -> bytes:
    """Raises OSError. Only a plain file is opened: whoever opens a pipe may wait for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(mode) else "it is not a regular file")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST // 1_000_000} MB")
    return data


_TABLES: dict[str, type[Table]] = {"shop": ShopSettings, "daemon": DaemonSettings, "web": WebSettings, "browser": BrowserSettings,
                                  "update": UpdateSettings}
_OPTIONAL: dict[str, type[Table]] = {"heartbeat": HeartbeatSettings}                                    # off unless it stands there
_KNOWN = (*_TABLES, *_OPTIONAL, "defaults", *ARRAYS)


class _Reader:
    """Gathers problems while the tables are checked one by one."""

    def __init__(self, path: Path, raw: dict[str, Any], lines: Mapping[toml_lines.Path, int]) -> None:
        self.path, self.raw, self.lines = path, raw, lines
        self.problems: list[Problem] = []

    def config(self) -> Config:
        self._unknown_tables()
        defaults = self._defaults()
        tables: dict[str, Any] = {name: self._table(name) for name in _TABLES}
        tables |= {name: self._model(model, self.raw[name], (name,)) if name in self.raw else None for name, model in _OPTIONAL.items()}
        tables["probe"] = tuple(self._probe(i, raw, defaults) for i, raw in self._array("probe"))
        tables["receiver"] = tuple(self._receiver(i, raw) for i, raw in self._array("receiver"))
        tables["token"] = tuple(self._model(TokenSettings, raw, ("token", i)) for i, raw in self._array("token"))
        self._names()
        self._secrets()
        self._cohorts()
        self._fallbacks()
        self._listen(tables["web"])
        self._certificates(tables)
        if self.raw.get("probe", []) == [] and not did_you_mean("probe", self.raw):
            self._add((), "there is no [[probe]]: nothing would be watched")
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))
        config = Config.model_construct(path=self.path, warnings=(), **tables)
        return config.model_copy(update={"warnings": tuple(warnings(config))})

    def _unknown_tables(self) -> None:
        for name, value in self.raw.items():
            if name not in _KNOWN:
                table = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
                self._add((name,), "unknown table" if table else "unknown key", did_you_mean(name, _KNOWN))

    def _array(self, name: str) -> list[tuple[int, Any]]:
        """The tables [[name]] with their numbers."""
        value = self.raw.get(name, [])
        if not isinstance(value, list):
            self._add((name,), f"write [[{name}]] with two brackets: there can be several")
            return []
        return list(enumerate(value))

    def _tables(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        return ((index, raw) for index, raw in self._array(name) if isinstance(raw, dict))

    def _table(self, name: str) -> Any:
        raw = self.raw.get(name, {})
        if name == "daemon" and isinstance(raw, dict):
            raw = {"state_dir": "state"} | raw
        return self._model(_TABLES[name], raw, (name,))

    def _defaults(self) -> dict[str, Any]:
        """The keys of [defaults] that are right; what is wrong there is said once, not at every probe."""
        raw = self.raw.get("defaults", {})
        before = len(self.problems)
        self._model(Defaults, raw, ("defaults",))
        wrong = {p.path.split(".")[1] for p in self.problems[before:] if "." in p.path}
        wrong |= {"of"} if "failures" in wrong else set()
        return {k: v for k, v in raw.items() if k not in wrong} if isinstance(raw, dict) else {}

    def _probe(self, index: int, raw: Any, defaults: Mapping[str, Any]) -> Probe | None:
        if not self._has_kind(raw, ("probe", index), PROBES, Probe):
            return None
        self._pace(index, raw, defaults)
        return self._model(probe_model(raw["kind"]), {**self._shop_url(raw["kind"]), **defaults, **raw}, ("probe", index))

    def _shop_url(self, kind: str) -> Mapping[str, Any]:
        """The shop's address, for a kind of probe that need not say its own."""
        shop, field = self.raw.get("shop"), probe_model(kind).model_fields.get("url")
        given = shop.get("url") if isinstance(shop, dict) else None
        return {"url": given} if isinstance(given, str) and field is not None and not field.is_required() else {}

    def _pace(self, index: int, raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """A run must be over before the next one is due. Said once where both are inherited."""
        fields, seconds, shown = probe_model(raw["kind"]).model_fields, {}, {}
        for key in ("interval", "timeout"):
            table, whence = (raw, "") if key in raw else (defaults, " (from [defaults])") if key in defaults else ({}, " (the default)")
            try:
                seconds[key] = parse_duration(table[key]) if key in table else fields[key].default
            except ValueError:
                return                                   # said with the rest of the table
            shown[key] = show_duration(seconds[key]) + whence
        if seconds["interval"] < seconds["timeout"]:
            own = next((key for key in seconds if key in raw), None)
            at = ("probe", index, own) if own else ("defaults", next(key for key in seconds if key in defaults))
            self._add(at, f"the interval {shown['interval']} is shorter than the timeout {shown['timeout']}")

    def _receiver(self, index: int, raw: Any) -> ReceiverSettings | None:
        if not self._has_kind(raw, ("receiver", index), RECEIVERS, ReceiverSettings):
            return None
        return self._model(RECEIVERS[raw["kind"]].settings, raw, ("receiver", index))

    def _has_kind(self, raw: Any, at: toml_lines.Path, table: Mapping[str, object], common: type[BaseModel]) -> bool:
        """Is the kind known? If not, what every kind has is checked at least."""
        if not isinstance(raw, dict):
            self._add(at, f"write a table [[{at[0]}]] here, not {config_words.shown(raw)}")
            return False
        kind = raw.get("kind")
        if isinstance(kind, str) and kind in table:
            return True
        if isinstance(kind, str):
            self._add((*at, "kind"), f'there is no kind "{kind}", only {quoted(table)}', did_you_mean(kind, table))
        else:
            self._add((*at, "kind"), f"is required: one of {quoted(table)}", f", not {config_words.shown(kind)}" if "kind" in raw else "")
        self._model(common, {key: value for key, value in raw.items() if key in common.model_fields} | {"kind": ""}, at)
        return False

    def _model(self, model: type[M], raw: Any, at: toml_lines.Path) -> M | None:
        try:
            return model.model_validate(raw, context={"base": self.path.parent})
        except ValidationError as error:
            for location, message in config_words.problems(error.errors(include_url=False), model, raw):
                self._add((*at, *location), message)
            return None

    def _names(self) -> None:
        for table in ARRAYS:
            first: dict[str, int] = {}
            for index, raw in self._tables(table):
                name = raw.get("name")
                if isinstance(name, str) and first.setdefault(name, index) != index:
                    line = toml_lines.line(self.lines, (table, first[name], "name"))
                    self._add((table, index, "name"), f'the {table} on line {line} is called "{name}" already')

    def _secrets(self) -> None:
        """An empty secret lets everybody in, and an inline one in a file that others can read is no secret."""
        readable = self.path.stat().st_mode & stat.S_IROTH
        for table in ARRAYS:
            for index, raw in self._tables(table):
                model = _model_of(table, raw)
                for where, value in _secrets_written(model, raw, (table, index)) if model else ():
                    if value in ("", {"env": ""}, {"file": ""}, {"credential": ""}):
                        self._add(where, "a secret must not be empty")
                    elif isinstance(value, str) and readable:
                        self._add(where, f"a secret stands here, and everybody on this host can read {self.path.name}: chmod o-r it, or write ",
                                  '{ env = "NAME" }, { file = "path" } or { credential = "name" }')
                    elif isinstance(value, dict) and isinstance(value.get("file"), str) and open_to_all(self.path.parent / value["file"]):
                        self._add(where, f"everybody on this host can read the secret in {value['file']}: chmod o-r it")

    def _cohorts(self) -> None:
        plain = {(str(raw.get("kind")), str(raw.get("url"))) for _, raw in self._tables("probe") if not raw.get("cohort")}
        for index, raw in self._tables("probe"):
            if raw.get("cohort") and (str(raw.get("kind")), str(raw.get("url"))) not in plain:
                self._add(("probe", index, "cohort"), f'"{raw["cohort"]}" has no control cohort: ',
                          "add a probe of the same kind and url without a cohort")

    def _fallbacks(self) -> None:
        names = {raw.get("name") for _, raw in self._tables("receiver")}
        for index, raw in self._tables("receiver"):
            fallback = raw.get("fallback", "")
            if isinstance(fallback, str) and fallback and (fallback not in names or fallback == raw.get("name")):
                others = names - {raw.get("name"), None}
                self._add(("receiver", index, "fallback"), f'there is no other receiver "{fallback}"', did_you_mean(fallback, map(str, others)))

    def _listen(self, web: WebSettings | None) -> None:
        if web and not web.tls and web.host != "localhost" and not ipaddress.ip_address(web.host).is_loopback:
            self._add(("web", "listen"), f"{web.host} can be reached from other hosts: ",
                      "set tls = { cert_file, key_file }, or listen on 127.0.0.1 behind a reverse proxy")

    def _certificates(self, tables: Mapping[str, Any]) -> None:
        """One that is not on this machine is only warned of."""
        for table in ("probe", "receiver"):
            for where, error in tls_files.faults(table, tables[table]):
                if isinstance(error, ssl.SSLError):
                    self._add(where, "the file ", tls_files.why(error))

    def _add(self, path: toml_lines.Path, *message: str) -> None:
        problem = Problem(str(self.path), toml_lines.line(self.lines, path), _dotted(path), self._label(path), "".join(message))
        if problem not in self.problems:
            self.problems.append(problem)

    def _label(self, path: toml_lines.Path) -> str:
        """The path with the name of the probe or receiver in place of its number."""
        if len(path) < 2 or not isinstance(path[1], int):
            return _dotted(path)
        table = self.raw.get(str(path[0]))
        raw = table[path[1]] if isinstance(table, list) else {}
        name = raw.get("name") if isinstance(raw, dict) else None
        head = f'{path[0]} "{name}"' if isinstance(name, str) and name else f"{path[0]} {path[1] + 1}"
        return ": ".join(filter(None, (head, _dotted(path[2:]))))


def _dotted(path: toml_lines.Path) -> str:
    return re.sub(r"\.\[", "[", ".".join(f"[{p}]" if isinstance(p, int) else p for p in path))


def _model_of(table: str, raw: Mapping[str, Any]) -> type[BaseModel] | None:
    kind = str(raw.get("kind"))
    if table == "token":
        return TokenSettings
    if table == "probe":
        return probe_model(kind) if kind in PROBES else None
    return RECEIVERS[kind].settings if kind in RECEIVERS else None


_SECRET_HEADERS = {"authorization", "cookie"}
_HARMLESS = re.compile(r"(?:[0-9][ -]?){12,19}|[0-9]{3,4}|[0-9]{2} ?/ ?[0-9]{2,4}")      # a test card, as everybody knows it; a real one is refused


def _secrets_written(model: type[BaseModel], raw: Mapping[str, Any], at: toml_lines.Path) -> Iterator[tuple[toml_lines.Path, Any]]:
    """(where, what) of every value that stands where a secret belongs, before it is known to be right."""
    known = config_words.keys(model)
    for key, value in raw.items():
        nested = config_words.models(known[key]) if key in known else []
        if Secret not in nested:
            if nested and isinstance(value, dict):
                yield from _secrets_written(nested[0], value, (*at, key))
        elif getattr(known[key].annotation, "__origin__", None) is Mapping:
            items = value.items() if isinstance(value, dict) else ()
            yield from (((*at, key, name), item) for name, item in items if isinstance(item, dict) or name.lower() in _SECRET_HEADERS
                        or (key == "secrets" and not _HARMLESS.fullmatch(str(item))))
        elif isinstance(value, list):
            yield from (((*at, key, index), item) for index, item in enumerate(value))
        else:
            yield (*at, key), value


def schema() -> dict[str, Any]:
    """The JSON Schema of config.toml, for editors."""
    several: dict[str, list[type[BaseModel]]] = {
        "probe": [probe_model(kind) for kind in PROBES], "receiver": [kind.settings for kind in RECEIVERS.values()], "token": [TokenSettings]}
    single: dict[str, type[BaseModel]] = {**_TABLES, **_OPTIONAL, "defaults": Defaults}
    every = [*single.values(), *(model for models in several.values() for model in models)]
    references, shared = models_json_schema([(model, "validation") for model in every])
    properties: dict[str, Any] = {name: references[model, "validation"] for name, model in single.items()}
    for name, models in several.items():
        properties[name] = {"type": "array", "items": {"anyOf": [references[model, "validation"] for model in models]}}
    definitions = shared["$defs"]
    definitions["DaemonSettings"]["required"] = []          # `load` knows a default for state_dir
    return cast("dict[str, Any]", standard({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tillwatch configuration", "type": "object",
        "properties": properties, "required": ["shop", "probe"], "additionalProperties": False, "$defs": definitions,
    }))
