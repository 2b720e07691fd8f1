"""What is followed of systemd's journal, and how journalctl is asked for it."""

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from probes.error_log.journal_entries import FIELDS, Entry
from probes.fields import ConfigPath, Several, Table

MACHINE_ID = Path("/etc/machine-id")
_LONGEST_NAME = 255
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]!^-]+")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]*")
_KINDS = ("service", "socket", "timer", "mount", "automount", "swap", "path", "scope", "target", "device")
_COREDUMP = "fc2e22bc6ee647b6b90729ab34a250b1"        # MESSAGE_ID of systemd-coredump(8)


def _no_option(name: str) -> str:
    if name.startswith("-"):
        raise ValueError(f'"{name}" begins with "-": journalctl would take it for an option')
    return name


def _unit(name: str) -> str:
    _no_option(name)
    if not _UNIT.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ValueError(f'"{name}" is no name of a unit, such as "nginx.service", nor a pattern, such as "php*-fpm.service"')
    if name.endswith(".slice"):
        raise ValueError(f'"{name}": a slice logs nothing itself, name the services in it')
    return name if name.endswith(("*", "]", *(f".{kind}" for kind in _KINDS))) else f"{name}.service"


def _identifier(name: str) -> str:
    _no_option(name)
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError(f"{name!r} is no syslog identifier")
    return name


def _namespace(name: str) -> str:
    _no_option(name)
    if not _NAMESPACE.fullmatch(name):
        raise ValueError(f'"{name}" is no name of a journal namespace')
    return name


class JournalSettings(Table):
    """journal = { ... }: entries of any of the units, and of any of the identifiers."""

    units: Several[Annotated[str, AfterValidator(_unit)]] = Field(
        default=(), description='systemd units; * ? [ ] stand for what they do in a shell: "php*-fpm.service"')
    identifiers: Several[Annotated[str, AfterValidator(_identifier)]] = Field(
        default=(), description="syslog identifiers, as programs that log with logger(1) or syslog(3) call themselves")
    everything: bool = Field(default=False, description="follow the whole journal, whatever logs there")
    directory: ConfigPath | None = Field(
        default=None, description="follow the journal in this folder, of a container or another host, in place of this host's")
    namespace: Annotated[str, AfterValidator(_namespace)] = Field(default="", description="follow this journal namespace (LogNamespace= of a unit)")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not (self.units or self.identifiers or self.everything):
            raise ValueError("name the units or identifiers to follow, or set everything = true")
        if self.everything and (self.units or self.identifiers):
            raise ValueError("everything = true leaves nothing to name: leave out units and identifiers, or everything")
        if self.directory and self.namespace:
            raise ValueError("give directory or namespace, not both")
        return self

    def place(self) -> list[str]:
        """The options of journalctl that say which journal."""
        return ([f"--directory={self.directory}"] if self.directory else []) + ([f"--namespace={self.namespace}"] if self.namespace else [])

    def follow(self, start: str) -> list[str]:
        """The arguments of a journalctl that gives everything from `start` (an option) on and goes on following.

        --follow alone implies --boot since systemd 250, and what was logged before a reboot would never be read. On 254 to 256 only --merge
        keeps it from that, on others only --boot=all; --merge in turn brings other machines' journals, so this one's are asked for by name.
        """
        return ["--output=json", "--all", f"--output-fields={','.join(FIELDS)}", "--merge", "--follow", "--no-tail", "--boot=all",
                *self.place(), start, "--", *self._matches()]

    def _matches(self) -> list[str]:
        """What journalctl itself picks out: a disjunction of conjunctions. Patterns it would resolve only once, so with them it gives all."""
        terms: list[list[str]] = [[]]
        if not self.everything and not self._has_patterns():
            terms = [term for unit in self.units for term in _of_unit(unit)] + [[f"SYSLOG_IDENTIFIER={name}"] for name in self.identifiers]
        machine = self._machine()
        joined: list[str] = []
        for term in terms:
            joined += [*(["+"] if joined else []), *machine, *term]
        return joined

    def _machine(self) -> list[str]:
        if self.directory:
            return []
        try:
            return [f"_MACHINE_ID={MACHINE_ID.read_text(encoding='ascii').strip()}"]
        except (OSError, UnicodeDecodeError):
            return []

    def _has_patterns(self) -> bool:
        return any(set(unit) & set("*?[") for unit in self.units)

    def wanted(self) -> Callable[[Entry], bool]:
        """Whether an entry that journalctl gave is one to follow."""
        if not self._has_patterns():
            return lambda _entry: True
        pattern = re.compile("|".join(translate(unit) for unit in self.units))
        matches = lru_cache(maxsize=1000)(lambda unit: bool(pattern.match(unit)))
        identifiers = frozenset(self.identifiers)
        return lambda entry: entry.identifier in identifiers or matches(entry.unit)


def _of_unit(unit: str) -> list[list[str]]:
    """What journalctl --unit= looks for: what the unit logs, and what systemd, root's programs and systemd-coredump log about it."""
    return [[f"_SYSTEMD_UNIT={unit}"], ["_PID=1", f"UNIT={unit}"], ["_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}"],
            ["_UID=0", f"MESSAGE_ID={_COREDUMP}", f"COREDUMP_UNIT={unit}"]]
