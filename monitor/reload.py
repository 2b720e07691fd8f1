"""Another configuration for the daemon that runs: read, checked as a whole and compared with the old one; taken, or refused with every problem."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from monitor import toml_lines
from monitor.config import Config, ConfigError, Problem, load, secrets
from monitor.store import Store, StoreError, records
from monitor.web.server import tls_context
from probes.aside import aside
from probes.fields import SecretError

# What cannot change while the daemon runs: labels of what was measured, and where its files, its port and its log are.
FIXED = (("shop", "name"), ("daemon", "state_dir"), ("daemon", "log_format"), ("web", "listen"))
# Keys of a probe that leave alone what is measured: with these changed its runs go on to be compared with earlier ones.
_BOOKKEEPING = frozenset({"recheck", "failures", "of", "confirm", "urgency", "means", "critical", "control", "margin"})
# What makes other targets, or is a spacing of its own: runs with these changed are kept apart anyway.
_APART = frozenset({"name", "cohort", "devices", "interval"})
_NAMED = ("probe", "receiver", "token")
READ_SECONDS = 10.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that can be taken, and what is new in it: names such as `probe "home"`, or `[update]`."""

    config: Config
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    other: frozenset[str]          # names of probes that measure something else than before

    def to_dict(self) -> dict[str, Any]:
        return {"added": list(self.added), "removed": list(self.removed), "changed": list(self.changed)}


def read(path: Path, old: Config) -> Change:
    """The configuration of that file, if the daemon that runs with `old` can take it. Raises ConfigError. Reads files: call it in a thread."""
    new = load(path)
    if problems := [*_fixed(path, old, new), *_unusable(path, new)]:
        raise ConfigError(problems)
    return compare(old, new)


async def within(path: Path, work: Callable[[], T]) -> T:
    """What `work` reads for the configuration at `path`. Raises ConfigError, OSError or SecretError, whatever is wrong with what it reads.

    One that hangs (a pipe, a file server that is gone) must not hold the end up.
    """
    read = aside(lambda: _tried(path, work), "reload")
    done, _ = await asyncio.wait([read], timeout=READ_SECONDS)
    if not done:
        read.cancel()
        raise ConfigError([Problem(str(path), 0, "", "", f"cannot be read within {READ_SECONDS:g} s")])
    return read.result()


def _tried(path: Path, work: Callable[[], T]) -> T:
    """A file that nobody can understand must not end the watching."""
    try:
        return work()
    except (ConfigError, OSError, SecretError):
        raise
    except Exception as error:  # noqa: BLE001 - the door around reading
        raise ConfigError([Problem(str(path), 0, "", "", f"cannot be read: {type(error).__name__}: {error}")]) from None


def compare(old: Config, new: Config) -> Change:
    """What differs."""
    was, now = _items(old), _items(new)
    both = was.keys() & now.keys()
    measures = {name for name in both if name.startswith("probe ") and _measured(was[name]) != _measured(now[name])}
    tables = [f"[{name}]" for name in type(old).model_fields
              if name not in {*_NAMED, "path", "warnings"} and getattr(old, name) != getattr(new, name)]
    changed = [name for name in now if name in both and _facts(was[name]) != _facts(now[name])]
    return Change(new, tuple(n for n in now if n not in both), tuple(n for n in was if n not in both), (*changed, *tables),
                  frozenset(now[name].name for name in measures))


def problem(path: Path, key: tuple[str, ...], message: str) -> Problem:
    """One thing that keeps the configuration from being taken, with its line."""
    try:
        lines = toml_lines.find(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):            # it was replaced meanwhile
        lines = {}
    name = ".".join(key)
    return Problem(str(path), toml_lines.line(lines, key), name, name, message)


def _items(config: Config) -> dict[str, Any]:
    return {f'{table} "{item.name}"': item for table in _NAMED for item in getattr(config, table)}


def _facts(item: BaseModel, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The settings themselves, without what a model keeps to work faster."""
    return {name: _plain(getattr(item, name)) for name in type(item).model_fields if name not in without}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return type(value), _facts(value)
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _measured(probe: BaseModel) -> dict[str, Any]:
    return _facts(probe, _BOOKKEEPING)


def fingerprint(probe: BaseModel) -> str:
    """Names what the probe measures: another one, and its earlier runs are no past of the later ones.

    Made of what differs from the defaults, so that a new key of a new version changes nothing. Secrets are not in it, only
    where they are: one that is replaced measures the same.
    """
    facts = probe.model_dump_json(exclude=set(_BOOKKEEPING | _APART), exclude_defaults=True)
    return hashlib.sha256(json.dumps(json.loads(facts), sort_keys=True).encode()).hexdigest()[:12]


async def note_measured(store: Store, config: Config, now: float) -> None:
    """Remember what each probe measures from now (Unix s) on; also while the disk cannot be written."""
    prints = {probe.name: fingerprint(probe) for probe in config.probe}
    with suppress(StoreError):                           # closed: the next start notes it
        await store.write(lambda c: records.note_measured(c, prints, now), essential=True)


def _fixed(path: Path, old: Config, new: Config) -> Iterator[Problem]:
    for table, key in FIXED:
        was, wanted = getattr(getattr(old, table), key), getattr(getattr(new, table), key)
        if was != wanted:
            yield problem(path, (table, key), f'is "{was}" and cannot become "{wanted}" while running: restart to change it')
    if (old.web.tls is None) != (new.web.tls is None):
        yield problem(path, ("web", "tls"), f"cannot be {'taken away' if old.web.tls else 'added'} while running: restart to change it")


def _unusable(path: Path, config: Config) -> Iterator[Problem]:
    for where, secret in secrets(config):
        try:
            secret.reveal()
        except SecretError as error:
            yield Problem(str(path), 0, "", where, str(error))
    if config.web.tls:
        try:
            tls_context(config.web.tls)
        except (OSError, ssl.SSLError) as error:
            yield problem(path, ("web", "tls"), f"certificate and key cannot be used: {error.strerror or error}")


def sentence(problems: Sequence[Problem]) -> str:
    """For a log or a status line."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}" if problems else ""
