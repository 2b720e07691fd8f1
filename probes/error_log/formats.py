"""How logs are written: the only list of formats, and which one a file has."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from probes.error_log import formats_json as json_lines
from probes.error_log import formats_text as text
from probes.error_log.event import LEVELS, LONGEST, Event, Level
from probes.error_log.scan_keys import core, plain

Found = Mapping[Level, str]
_LOOKED_AT = 60            # lines of a file by which its format is recognised
_LONGEST = 400             # characters of such a line
_ENOUGH = 0.3              # share of these lines that must look so


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of log is written.

    `found` are patterns (re2) of lines that may be an event of each level: what they miss is never looked at. `read` makes an event of its
    text, or says that it is none. `starts` is how the first line of an event looks: the lines until the next such one belong to it; without
    it only a trace goes on with the line above. Events with the same `quick` are the same one to `read`, and so are those with the same `core`, which
    costs more, but for digits and hashes in it. `longest` is how many bytes of an event are looked at.
    """

    found: Found
    looks: str
    read: Callable[[str], Event | None]
    starts: re.Pattern[bytes] | None = None
    quick: Callable[[bytes], bytes] = plain
    core: Callable[[bytes], bytes] = core
    longest: int = LONGEST
    requests: bool = False                        # every line is a request, and is counted as such

    def pattern(self, least: Level) -> str:
        """Lines that may be an event of at least this level."""
        return "|".join(self.found[level] for level in LEVELS[:LEVELS.index(least) + 1] if self.found.get(level))


def json_format(names: json_lines.Names) -> Format:
    """JSON lines whose fields are called so; lines that are none stand between them when a program crashes."""
    return Format(names.found(), r'\s*\{.*"[^"]{1,60}"\s*:', names.read, None, names.quick, names.core, json_lines.LONGEST)


def _worded(found: Found, looks: str, read: Callable[[str], Event | None], starts: bytes = b"") -> Format:
    """A format whose lines are read by their words where they say no level; there digits may decide."""
    return Format(found, looks, read, re.compile(starts) if starts else None, text.quick, text.core)


_DAY, _TIME = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d:\d\d"
_PYTHON_LEVEL = "DEBUG|INFO|WARNING|ERROR|CRITICAL"
_APACHE = r"\[(?:[\w.\-]+:)?"                     # of 2.4 with the module

FORMATS: dict[str, Format] = {
    "nginx_error": Format(
        {"critical": rf"\[(?:crit|alert|emerg)\]|{text.PHP_FATAL}", "error": r"\[error\]", "warning": r"\[warn\]"},
        rf"\d{{4}}/\d\d/\d\d {_TIME} \[\w+\] \d+#\d+:", text.nginx, re.compile(rb"\d{4}/\d\d/\d\d \d\d:")),
    "apache_error": Format(
        {"critical": rf"{_APACHE}(?:crit|alert|emerg)\]|{text.PHP_FATAL}", "error": rf"{_APACHE}error\]", "warning": rf"{_APACHE}warn\]"},
        r"\[\w{3} \w{3} +\d+ [\d:.]+ \d{4}\] \[", text.apache, re.compile(rb"\[\w{3} \w{3} +\d+ [\d:.]+ \d{4}\] ")),
    "combined": Format({"error": r'" 5\d\d '}, r'\S+ \S+ \S[^\[\n]{0,60}\[\d\d/\w{3}/\d{4}:[\d:]+ [+-]\d{4}\] "', text.request, requests=True),
    "json": json_format(json_lines.USUAL),
    "monolog": Format(
        {"critical": r"\.(?:CRITICAL|ALERT|EMERGENCY): ", "error": r"\.ERROR: ", "warning": r"\.WARNING: "},
        rf"\[{_DAY}[T ][\d:.]+(?:[+-]\d\d:?\d\d|Z)?\] [\w.\-]+\.[A-Z]+: ", text.monolog, re.compile(rb"\[\d{4}-\d\d-\d\d[T ]\d\d:")),
    "wordpress": _worded(
        {"critical": rf"{text.PHP['critical']}|[Z0] (?:CRITICAL|ALERT|EMERGENCY) ", "error": rf"{text.PHP['error']}|[Z0] ERROR ",
         "warning": rf"{text.PHP['warning']}|[Z0] WARNING "},
        r"(?:\[\d\d-\w{3}-\d{4} [\d:]+ UTC\] (?:WordPress|.*/wp-(?:content|includes|admin)/)"
        rf"|{_DAY}T[\d:]+\+00:00 [A-Z]{{4,9}} )", text.wordpress,
        text.PHP_STARTS + rb"|\d{4}-\d\d-\d\dT\d\d:"),
    "php": _worded(
        text.PHP,
        r"(?:\[\d\d-\w{3}-\d{4} [\d:.]+(?: [\w/+:\-]+)?\] |PHP [A-Z]\w+(?: \w+)?: )", text.php, text.PHP_STARTS),
    "opencart": _worded(text.PHP, rf"{_DAY} \d?\d:\d\d:\d\d - ", text.php, rb"\d{4}-\d\d-\d\d \d?\d:\d\d:\d\d - "),
    "mysql": _worded(
        {"error": r"\[ERROR\]", "warning": r"\[Warning\]"},
        rf"{_DAY}[ T]+\d?\d:\d\d:\d\d\S* +\d+ \[(?:Note|Warning|ERROR|System)\]", text.worded, rb"\d{4}-\d\d-\d\d[ T]"),
    "postgresql": Format(
        {"critical": r" (?:FATAL|PANIC):  ", "error": r" ERROR:  ", "warning": r" WARNING:  "},
        rf"{_DAY} [\d:.]+ \w+ .*\b(?:LOG|ERROR|FATAL|WARNING|HINT|STATEMENT|DETAIL|PANIC):  ", text.postgresql,
        re.compile(rb"\d{4}-\d\d-\d\d [\d:.]+ \w+ (?![^\n]{0,120}?\b(?:DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION):  )")),
    "python": _worded(
        {"critical": r"\b(?:CRITICAL|FATAL)\b", "error": r'\bERROR\b|Traceback \(most recent call last\)|" 5\d\d \d+\r?$',
         "warning": r"\bWARN(?:ING)?\b"},
        rf"(?:{_DAY}[ T][\d:.,]+Z?,? (?:\[?(?:{_PYTHON_LEVEL})\b|[\w.]+ - (?:{_PYTHON_LEVEL})\b)"
        rf"|(?:{_PYTHON_LEVEL})(?::[\w.]+:| +\d{{4}}-| )|\[{_DAY} [\d:,.]+(?: [+-]\d{{4}})?\] (?:\[\w+\] )?\[?(?:{_PYTHON_LEVEL})"
        r'|Traceback \(most recent call last\)|  File "|\[\d\d/\w{3}/\d{4} [\d:]+\] )', text.worded,
        rb"\d{4}-\d\d-\d\d[ T]|\[\d{4}-\d\d-\d\d |\[\d\d/\w{3}/\d{4}|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)[: ]"),
    "java": _worded(
        {"critical": r"\bFATAL\b|Exception in thread", "error": r"\b(?:ERROR|SEVERE)\b", "warning": r"\bWARN(?:ING)?\b"},
        rf"(?:{_DAY}[ T])?{_TIME}[\d:.,]*(?:Z|[+-]\d\d:?\d\d)? +(?:\[[^\]]*\] +)?(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL|SEVERE)\b"
        r"|\tat [\w.$]+\(|(?:INFO|WARNING|SEVERE): ", text.worded,
        rb"(?:\d{4}-\d\d-\d\d[ T])?\d\d:\d\d:\d\d|[A-Z][a-z]{2} \d\d, \d{4} |Exception in thread"),
    "node": _worded(
        {"critical": rf"(?i:\b(?:fatal|uncaught)\b)|{text.CRASHED}", "error": r"(?i:\berror\b)|^(?:[A-Z]\w*Error|Error)(?: \[\w+\])?: ",
         "warning": r"(?i:\bwarn(?:ing)?\b)"},
        r"    at (?:async )?[\w.<>\[\] ]*\(?(?:file://|node:|/)[^)\n]*:\d+:\d+\)?$|[A-Z]\w*Error(?: \[\w+\])?: |Node\.js v\d", text.node),
    "syslog": Format(
        {level: text.priorities(level) + "|" + words for level, words in text.WORDS.items()},
        rf"(?:<\d{{1,3}}>)?(?:1 )?(?:[A-Z][a-z]{{2}} [ \d]\d {_TIME}|{_DAY}T[\d:.]+\S*) [\w.\-]+ [\w./\-]+(?:\[\d+\])?[: ]",
        text.syslog, None, text.syslog_quick, text.syslog_core),
    "generic": _worded(text.WORDS, r"(?!)", text.generic),
}
_FIRST, _FIRST_LINES = 2048, 5         # bytes and lines of a piece
_LOOKS = {name: re.compile(known.looks) for name, known in FORMATS.items()}


def recognise(head: bytes) -> str:
    """The format of a file that begins so: the one that most of its lines look like; "generic" when none is."""
    lines = [line[:_LONGEST] for line in head.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")[:_LOOKED_AT] if line.strip()]
    like = {name: sum(1 for line in lines if looks.match(line)) for name, looks in _LOOKS.items()}
    best = max(like, key=lambda name: like[name])
    # The lines of a trace look like nothing: they count for the format of the lines that they stand under.
    trace = sum(1 for line in lines if line[:1] in {" ", "\t", "#", "}"} or line.startswith(("Stack trace", "Caused by")))
    return best if like[best] >= max(1, _ENOUGH * (len(lines) - trace)) else "generic"


def looks_like(name: str, data: bytes) -> bool:
    """Whether any of the first lines of a piece looks as this format does: a program may begin to log otherwise at any time."""
    looks = _LOOKS[name]
    return any(looks.match(line[:_LONGEST].decode("utf-8", "replace")) for line in data[:_FIRST].split(b"\n")[:_FIRST_LINES])
