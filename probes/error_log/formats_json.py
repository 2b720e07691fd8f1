"""JSON lines, whatever their keys are called."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from probes.error_log.access import told
from probes.error_log.event import Event, Level
from probes.error_log.formats_text import CRASHED, WORD_LEVELS, made, node
from probes.error_log.scan_keys import core, kept, plain

LONGEST = 256 * 1024       # bytes of a line that are parsed: 2 ms
_LEVEL_KEYS = (
    "level", "severity", "lvl", "levelname", "level_name", "loglevel", "log_level", "log.level", "@level", "@l", "severity_text", "severityText",
    "priority", "status")
_MESSAGE_KEYS = ("message", "msg", "@message", "@m", "@mt", "event", "short_message", "text", "error", "body")
_TRACE_KEYS = (
    "exception", "exc", "exc_info", "stack", "stack_trace", "stacktrace", "traceback", "@x", "error.stack_trace", "err.stack", "error.stack",
    "exception.stacktrace", "full_message", "context.exception", "exception.message", "err.message", "error.message")
_SOURCE_KEYS = ("logger", "logger_name", "channel", "name", "log.logger", "module", "service", "component", "@module")
_STATUS_KEYS = ("status", "statusCode", "status_code", "http_status", "DownstreamStatus", "res.statusCode")
_REQUEST_KEYS = ("request", "uri", "request_uri", "path", "url", "request.uri", "RequestPath", "req.url")
_METHOD_KEYS = ("method", "request_method", "RequestMethod", "request.method", "req.method")
_DEEPEST = 3
SHOWN = 4096                # characters of a line that is no JSON in which its level is looked for
_MOST_FIELDS = 200
_IDENTIFIER = re.compile(rb'"[0-9a-f-]{16,}"')
_STATUS = rf'"(?:{"|".join(name for name in _STATUS_KEYS if "." not in name)})"[ ]?:[ ]?"?5\d\d\b'
# A program that writes JSON may still crash in plain words.
_CRASH = rf"^(?:PHP (?:Fatal|Parse) error|panic: |Exception in thread |Uncaught )|{CRASHED}"
_RAISED = r"^(?:Traceback \(most recent call last\)|(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b)"


@dataclass(frozen=True, slots=True)
class Fields:
    """What of a line decides its signature."""

    level: Level
    message: str
    trace: str
    source: str


@dataclass(frozen=True, slots=True)
class Names:
    """What the fields are called. `level`, `message` and `trace` are in the order in which they are looked for; nested ones have dots."""

    level: tuple[str, ...] = _LEVEL_KEYS
    message: tuple[str, ...] = _MESSAGE_KEYS
    trace: tuple[str, ...] = _TRACE_KEYS
    numbers: re.Pattern[bytes] = re.compile(b"")
    telling: re.Pattern[str] = re.compile("")

    @classmethod
    def of(cls, level: str = "", message: str = "", trace: str = "") -> Self:
        """The usual names, and these before them."""
        levels, messages, traces = (((own,) if own else ()) + usual for own, usual in (
            (level, _LEVEL_KEYS), (message, _MESSAGE_KEYS), (trace, _TRACE_KEYS)))
        says = _any({name.rpartition(".")[2] for name in messages})
        numbers = re.compile(rf'"(?:{_any(levels + _STATUS_KEYS)})"\s?:\s?"?(\d+)'.encode())
        telling = re.compile(rf'"(?:{says})"\s?:\s?"((?:[^"\\]|\\.)*)|"(?:{_any(levels)})"\s?:\s?"?(\w+)')
        return cls(levels, messages, traces, numbers, telling)

    def found(self) -> dict[Level, str]:
        """Patterns of lines that may be an event of each level."""
        says = rf'"(?:{_any(self.level)})"[ ]?:[ ]?'
        return {                                  # numbers: syslog's 0 to 4, pino's and bunyan's 40 to 60, Monolog's 300 to 600
            "critical": rf'{says}(?:"?(?i:crit|alert|emerg|fatal|d?panic)|"?(?:[0-2]|60|[56][05]0)\b)|{_CRASH}',
            "error": rf'{says}(?:"?(?i:err|severe|failure)|"?(?:3|50|400)\b)|{_STATUS}|{_RAISED}',
            "warning": rf'{says}(?:"?(?i:warn)|"?(?:4|40|300)\b)',
        }

    def quick(self, text: bytes) -> bytes:
        """The line without digits, but those of its level, and without identifiers."""
        return self._numbered(text) + plain(_IDENTIFIER.sub(b"", text))

    def core(self, text: bytes) -> bytes:
        """What tells an event apart: its level, its source and its messages. Identifiers of requests stand elsewhere."""
        fields = self._fields(text.decode("utf-8", "replace"))
        if fields is None:
            return self._numbered(text) + core(text)
        said = f"{fields.level}\0{fields.source}\0{fields.message}\0\n"
        return said.encode("utf-8", "replace") + core(fields.trace.encode("utf-8", "replace"))

    def _numbered(self, text: bytes) -> bytes:
        found = self.numbers.findall(text)
        return kept(b" ".join(found)) if found else b""

    def read(self, text: str) -> Event | None:
        """The event of a line."""
        if not text.startswith("{"):
            return node(text)
        fields = self._fields(text)
        return made(fields.level, fields.message, fields.trace, fields.source) if fields else None

    def _fields(self, text: str) -> Fields | None:
        """None for a line that is no event."""
        if not text.startswith("{"):
            return None
        try:
            fields = json.loads(text) if len(text) <= LONGEST else None
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            return self._torn(text[:SHOWN])
        flat = dict(_flat(fields)) if any(isinstance(value, dict | list) for value in fields.values()) else fields
        level = next((level for name in self.level if name in flat and (level := severity(flat[name])) and not _answer(name, flat[name])), None)
        if level is None:
            return _request(flat)
        return Fields(level, _text(_first(flat, self.message)), _text(_first(flat, self.trace)), _text(_first(flat, _SOURCE_KEYS)))

    def _torn(self, text: str) -> Fields | None:
        """A line that is no whole JSON: cut off, or not meant to be any."""
        found = self.telling.findall(text)
        level = next((level for _, word in found if (level := severity(word))), None)
        said = next((words for words, _ in found if words), "")
        return Fields(level, said or text, text, "") if level else None


def _any(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted({part for name in names for part in (name, name.rpartition(".")[2])}))


def severity(said: object) -> Level | None:
    """The level that a word or a number means; None for one that is no error, or is not known."""
    if isinstance(said, str) and not said.strip().isdigit():
        return WORD_LEVELS.get(said.strip().lower())
    try:
        number = int(float(said))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if number < 10:
        return "critical" if number <= 2 else "error" if number == 3 else "warning" if number == 4 else None
    steps: tuple[tuple[int, Level], ...] = ((60, "critical"), (50, "error"), (40, "warning")) if number < 100 else (
        (500, "critical"), (400, "error"), (300, "warning"))
    return next((level for least, level in steps if number >= least), None)


def _answer(name: str, said: object) -> bool:
    """Whether a "status" is the number of an HTTP answer, and no level."""
    return name in _STATUS_KEYS and (not isinstance(said, str) or said.strip().isdigit())


def _request(flat: Mapping[str, Any]) -> Fields | None:
    """A line of an access log: the server failed."""
    status, where = _text(_first(flat, _STATUS_KEYS)), _text(_first(flat, _REQUEST_KEYS))
    if not re.fullmatch(r"5\d\d", status) or not where:
        return None
    first, _, rest = where.partition(" ")                        # "GET /checkout HTTP/1.1", or the path alone
    method, path = (first, rest) if first.isupper() else (_text(_first(flat, _METHOD_KEYS)), where)
    return Fields("error", told(method.encode("utf-8", "replace"), path.encode("utf-8", "replace"), status.encode()), "", "access")


def _flat(fields: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in islice(fields.items(), _MOST_FIELDS):
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _flat(value, f"{before}{name}.", depth + 1)
        elif value is not None and not isinstance(value, dict | list):
            yield f"{before}{name}", value


def _first(flat: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((flat[name] for name in names if flat.get(name) not in (None, "")), None)


def _text(value: object) -> str:
    return "" if value is None else str(value)


USUAL = Names.of()
