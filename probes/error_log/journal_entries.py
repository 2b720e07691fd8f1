"""Entries of the journal, out of the lines that `journalctl --output=json` writes. Everything in them may be hostile."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from probes.error_log.event import LONGEST, Level

FIELDS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "_PID", "_UID", "UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT")
KEPT = 128 * 1024          # bytes of the beginning, and of the end, of a line that is too long: LONGEST fits in, at 6 characters a byte
LONGEST_CURSOR = 512       # characters; systemd's have about 140
_INFO = 6                  # PRIORITY of an entry that has none
_LONGEST_NAME = 256        # characters of a unit or an identifier
_GROUP = 256 * 1024        # bytes of lines that are given as one text
_PAUSE = 1.0               # s; what a process says later is another text

_CURSOR = re.compile(rf"[!-~]{{1,{LONGEST_CURSOR}}}")
_PAIR = re.compile(rb'"(__CURSOR|__REALTIME_TIMESTAMP|%s)"\s?:\s?"((?:[^"\\]|\\.)*)"' % "|".join(FIELDS[1:]).encode())
_MESSAGE = re.compile(rb'"MESSAGE"\s?:\s?(?:\[\s?)*(?:"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)|([0-9, ]*))')


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `text` has at most LONGEST bytes; `unit` is whom it is about: systemd says of a service that it has failed."""

    text: bytes
    priority: int = _INFO      # 0 (emergency) to 7 (debug), as syslog(3) counts
    unit: str = ""
    identifier: str = ""
    pid: int = 0               # 0 when the journal does not know it
    realtime: float = 0.0      # Unix s


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry and its place in the journal: `realtime` in µs."""

    cursor: str
    realtime: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Cut:
    """A line of which the middle was thrown away."""

    head: bytes
    tail: bytes


class Lines:
    """Puts lines together again. Holds at most twice KEPT and what it was fed last."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._head = b""           # of a line that is too long

    def feed(self, data: bytes) -> Iterator[bytes | Cut]:
        """The lines that end in `data`."""
        first, newline, behind = data.partition(b"\n")
        self._rest += first
        if newline:
            yield Cut(self._head, bytes(self._rest[-KEPT:])) if self._head else bytes(self._rest)
            self._head = b""
            *lines, last = behind.split(b"\n")
            yield from lines
            self._rest = bytearray(last)
        if len(self._rest) > 2 * KEPT:
            self._head = self._head or bytes(self._rest[:KEPT])
            del self._rest[:-KEPT]


def decode(line: bytes | Cut) -> Placed | None:
    """The entry of a line; None for one that is no entry."""
    try:
        fields = _pieces(line) if isinstance(line, Cut) else json.loads(line)
        if not isinstance(fields, dict) or not _CURSOR.fullmatch(cursor := fields["__CURSOR"]):
            return None
        realtime = int(_name(fields, "__REALTIME_TIMESTAMP"))
        return Placed(cursor, realtime, _entry(fields, realtime)) if 0 <= realtime < 2**63 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _entry(fields: dict[str, Any], realtime: int) -> Entry:
    priority, pid = _name(fields, "PRIORITY"), _name(fields, "_PID")
    return Entry(
        text=_bytes(fields.get("MESSAGE"))[:LONGEST],
        priority=int(priority) if priority in {"0", "1", "2", "3", "4", "5", "6", "7"} else _INFO,
        unit=_about(fields, pid), identifier=_name(fields, "SYSLOG_IDENTIFIER"),
        pid=int(pid) if pid.isascii() and pid.isdigit() and len(pid) < 20 else 0, realtime=realtime / 1e6)


def _about(fields: dict[str, Any], pid: str) -> str:
    """The unit of an entry. What anybody can claim is believed only of systemd (PID 1) and of root."""
    claimed = pid == "1" and _name(fields, "UNIT")
    if not claimed and _name(fields, "_UID") == "0":
        claimed = _name(fields, "COREDUMP_UNIT") or _name(fields, "OBJECT_SYSTEMD_UNIT")
    return claimed or _name(fields, "_SYSTEMD_UNIT")


def _name(fields: dict[str, Any], key: str) -> str:
    """A field as text; the first one when it is repeated."""
    value = fields.get(key, "")
    if isinstance(value, list):
        value = value[0] if value else ""
    return value[:_LONGEST_NAME] if isinstance(value, str) else ""


def _bytes(value: object) -> bytes:
    """The value of a field: a string, numbers when it is not UTF-8, a list of those when it is repeated."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, list) and value and isinstance(value[0], int):
        return bytes(value)
    if isinstance(value, list):
        return b"\n".join(_bytes(one) for one in value)
    return b""


def _pieces(line: Cut) -> dict[str, Any]:
    """What can be read of a line without its middle. Inside of a value no quotation mark stands without a backslash, so no value can fake a name."""
    fields: dict[str, Any] = {name.decode(): json.loads(b'"%s"' % value) for part in (line.head, line.tail) for name, value in _PAIR.findall(part)}
    if (found := _MESSAGE.search(line.head)) and found[1] is not None:
        fields["MESSAGE"] = json.loads(f'"{found[1].decode("utf-8", "replace")}"', strict=False)
    elif found:
        fields["MESSAGE"] = [int(number) for number in found[2].split(b",")[:LONGEST] if number.strip()]
    return fields


class _Group:
    """Lines that one process wrote one after the other."""

    def __init__(self, entry: Entry) -> None:
        self.priority, self.last, self.size = entry.priority, entry.realtime, len(entry.text)
        self.lines = [entry.text]

    def takes(self, entry: Entry) -> bool:
        if entry.priority != self.priority or abs(entry.realtime - self.last) > _PAUSE or self.size + len(entry.text) > _GROUP:
            return False
        self.last = entry.realtime
        self.size += len(entry.text) + 1
        self.lines.append(entry.text)
        return True


def texts(entries: Sequence[Entry]) -> list[tuple[bytes, Level | None]]:
    """What was said, in the order in which it began: (lines, None), or (one event, its level) of an entry that has one.

    A traceback on stderr is many entries of no level. So the lines of one process that follow each other closely are one text, whatever other
    processes say in between.
    """
    said: list[tuple[_Group, Level | None]] = []
    open_groups: dict[tuple[str, str, int], _Group] = {}
    for entry in entries:
        level, process = _level(entry.priority), (entry.unit, entry.identifier, entry.pid)
        if level:
            open_groups.pop(process, None)
            said.append((_Group(entry), level))
        elif not ((group := open_groups.get(process)) and group.takes(entry)):
            open_groups[process] = group = _Group(entry)
            said.append((group, None))
    return [(group.lines[0], level) if level else (b"\n".join(group.lines) + b"\n", None) for group, level in said]


def _level(priority: int) -> Level | None:
    if priority > 4:
        return None
    return "critical" if priority < 3 else "error" if priority == 3 else "warning"
