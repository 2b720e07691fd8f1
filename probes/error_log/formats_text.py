"""From the text of an event to what it says: one function for each way in which loggers write."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from probes.error_log.access import told
from probes.error_log.engine import compiled
from probes.error_log.event import LEVELS, Event, Frame, Level, worse
from probes.error_log.scan_keys import core as _core
from probes.error_log.scan_keys import kept, plain
from probes.error_log.traces import trace

WORD_LEVELS: Mapping[str, Level] = {
    **dict.fromkeys(("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic", "dpanic"), "critical"),
    **dict.fromkeys(("error", "err", "severe", "failure"), "error"), **dict.fromkeys(("warn", "warning"), "warning"),
}
_HARMLESS = "TRACE|DEBUG|INFO|INFORMATION|NOTICE|NOTE|Note|System|LOG|VERBOSE|FINE"
_LEVEL = re.compile(
    rf"\b(?P<level>EMERG(?:ENCY)?|ALERT|CRIT(?:ICAL)?|FATAL|PANIC|SEVERE|ERROR|ERR|WARN(?:ING)?|Warning|{_HARMLESS}"
    r"|(?<=\[)(?:error|warn|crit|info|debug)|(?:error|warn|info|debug)(?=:))\b[\]:>]{0,2}")
_HEAD = 200                # characters before which the level of a line must stand
_CONTEXT = re.compile(r"\s+(?:\{.*\}|\[.*?\])\s+\[.*?\]\s*$", re.DOTALL)          # Monolog's context and extra
_TAIL = re.compile(r", (?:client|server|request|upstream|host|referrer|subrequest): .*$", re.DOTALL)      # nginx
_REFERER = re.compile(r", referer: .*$")
_PHP_FAULT = re.compile(
    r"(?:PHP message: )?PHP (?P<kind>(?:Fatal|Parse|Core|Compile|Recoverable fatal|Catchable fatal|Unknown) error|User Error"
    r"|(?:Core |Compile |User )?Warning|(?:User )?(?:Notice|Deprecated)|Strict Standards): +")
_MOST_FAULTS = 20          # of PHP that nginx has put into one line
_PHP_STAMP = re.compile(r"^(?:\[[^\]\n]{8,60}\] |\d{4}-\d\d-\d\d \d?\d:\d\d:\d\d - |NOTICE: PHP message: )(?:NOTICE: PHP message: )?")
_FPM = re.compile(r'^(?P<level>[A-Z]+): (?:\[pool (?P<pool>[^\]]*)\] )?(?:child \d+,? said into std(?:err|out): "(?P<said>.*))?', re.DOTALL)
PHP_FATAL = "PHP (?:Fatal|Parse|Core|Compile|Recoverable fatal|Catchable fatal) error"
PHP: Mapping[Level, str] = {
    "critical": rf"{PHP_FATAL}|\bUncaught\b|\] ALERT: ",
    "error": r"\b(?:ERROR|Error|EXCEPTION|Exception)\b|PHP User Error|database error",
    "warning": r"PHP (?:User |Core |Compile )?Warning|\] WARNING: ",
}
# A wrapped or continued message of PHP-FPM has a stamp of its own.
PHP_STARTS = (
    rb'\[\d\d-\w{3}-\d{4} [\d:.]+(?: [\w/+:\-]+)?\] (?!WARNING: \[pool [^\]\n]*\] child \d+,? said into std(?:err|out): "'
    rb"(?:\.\.\.|#\d|Stack trace|  thrown|PHP message: (?:#\d|Stack trace|  thrown)|\s))|PHP [A-Z]\w+(?: \w+)?: |NOTICE: PHP message: ")
# A format that is not known: words, in any case. `no error` and `error=0` are read as what they say by `generic`.
_RAISED = r"\b[A-Z][A-Za-z]*(?:Error|Exception)\b"
WORDS: Mapping[Level, str] = {
    "critical": r"(?i:\b(?:fatal|critical|panic|uncaught|emerg(?:ency)?)\b)",
    "error": rf'(?i:\b(?:error|exception|traceback|failed|refused|timed out)\b)|{_RAISED}|" 5\d\d ',
    "warning": r"(?i:\bwarn(?:ing)?\b)",
}
_WORDS = {level: re.compile(words) for level, words in WORDS.items()}
_NOTHING = (
    r"\b(?:no|0|zero|without)\s+(?:errors?|warnings?|exceptions?)\b"
    r"|\b(?:errors?|failed|warnings?|exceptions?)\s?[=:]\s?(?:0|none|null|false|\"\")(?![\d.])")
_NONE, _NONE_BYTES = re.compile(_NOTHING, re.IGNORECASE), re.compile(_NOTHING.encode(), re.IGNORECASE)
_LOOKED_AT = 1000          # of a line whose words count
# Where digits may decide whether a line is an error.
_DECISIVE = compiled(r'(?i:\b0\s+(?:errors?|warnings?|exceptions?)\b|\b(?:errors?|failed|warnings?|exceptions?)\s?[=:]\s?0)|" [0-9]{3} ')
_SOURCE = re.compile(
    r"^[\s:\-]*(?:\[(?P<a>[A-Za-z][\w.$/\-]{0,80})\]:?|(?P<b>[A-Za-z][\w.$]{0,80}):(?=\S)|\d+ --- \[[^\]]*\] (?P<c>[\w.$]+)\s*:"
    r"|(?P<d>[A-Za-z][\w.$]{0,80}) +- |in (?P<e>\w+):|\[[^\]]{0,60}\] (?P<f>[A-Za-z][\w.$]*\.[\w.$]+)(?: -)?"
    r"|\d{4}-\d\d-\d\d [\d:,.]+ (?P<g>[\w.]+) \d+ \d+|\[MY-\d+\] \[(?P<h>\w+)\])\s*")
_SYSLOG = re.compile(
    r"^(?:<(?P<pri>\d{1,3})>)?(?:1 )?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) (?P<host>\S+) "
    r"(?P<program>[\w./\-]+)(?:\[\d+\])?:? ?"
    r"(?:\S+ \S+ (?:-|\[[^\n]*?\]) )?(?P<said>.*)", re.DOTALL)
CRASHED = r"^(?:/|file://|node:)[^\n]*:[0-9]+\r?$"                                   # its first line (re2)
_CRASHED = re.compile(r"(?:/|file://|node:|[A-Za-z]:\\)[^\n]*:\d+\r?\n(?:[^\n]{0,2000}\n){1,3}?[ \t]*\^+\r?\n(?:\r?\n)?([^\n]*)")
_REQUEST = re.compile(r'"(?P<method>[A-Z]{3,10}) (?P<path>[^ "?]{1,500})[^"]*" (?P<status>5\d\d) ')
_SEVERITY: tuple[Level | None, ...] = ("critical", "critical", "critical", "error", "warning", None, None, None)


def made(level: Level, message: str, whole: str, source: str = "") -> Event:
    """The event, with what the trace in its text tells."""
    found = trace(whole) if whole else None
    if found is None:
        return Event(level, _first_line(message), source)
    return Event(level, found.message or ("" if found.exception else _first_line(message)), source, found.exception, found.frames)


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.split("\n") if line.strip()), "")


def _php_fault(message: str) -> tuple[Level | None, str] | None:
    """What PHP itself says, the worst of it: its level and its message; None when it is not PHP that speaks."""
    found = list(islice(_PHP_FAULT.finditer(message), _MOST_FAULTS))
    if not found:
        return None
    levels = [_php_level(fault["kind"].lower()) for fault in found]
    worst = min(range(len(found)), key=lambda number: LEVELS.index(level) if (level := levels[number]) else len(LEVELS))
    end = found[worst + 1].start() if worst + 1 < len(found) else len(message)
    return levels[worst], message[found[worst].end():end]


def _php_level(kind: str) -> Level | None:
    if kind in {"user error", "unknown error"}:
        return "error"
    return "warning" if "warning" in kind else "critical" if "error" in kind else None


def nginx(text: str) -> Event | None:
    """nginx's error log; what PHP wrote through it has PHP's level."""
    found = re.match(r"\S+ \S+ \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)", text, re.DOTALL)
    return _server(found[1], _TAIL.sub("", found[2]), text, "nginx") if found else generic(text)


def apache(text: str) -> Event | None:
    """Apache's error log, of 2.2 and 2.4."""
    found = re.match(r"\[[^\]]+\] \[(?:([\w.\-]+):)?(\w+)\] (?:\[pid [^\]]*\] )?(?:\[(?:client|remote) [^\]]*\] )?(.*)", text, re.DOTALL)
    return _server(found[2], _REFERER.sub("", found[3]), text, found[1] or "apache") if found else generic(text)


def _server(word: str, message: str, text: str, source: str) -> Event | None:
    level = WORD_LEVELS.get(word)
    if (fault := _php_fault(message)) is not None:
        return made(fault[0], fault[1], text, "php") if fault[0] else None
    return made(level, message, text, source) if level else None


def request(text: str) -> Event | None:
    """A line of an access log whose request the server failed."""
    found = _REQUEST.search(text)
    if not found:
        return None
    method, path, status = (found[name].encode("utf-8", "replace") for name in ("method", "path", "status"))
    return Event("error", told(method, path, status), "access")


def php(text: str) -> Event | None:
    """PHP's own error log, and that of PHP-FPM."""
    message = _PHP_STAMP.sub("", text)
    if (fault := _php_fault(message)) is not None:
        return made(fault[0], fault[1], text) if fault[0] else None
    if (fpm := _FPM.match(message)) and (fpm["pool"] or fpm["level"] in {"ALERT", "ERROR", "WARNING", "NOTICE"}):
        level = WORD_LEVELS.get(fpm["level"].lower())
        said = fpm["said"]
        if said is not None:
            inner = generic(said)
            return made(worse(inner.level, "warning") if inner else "warning", said.strip('" \n'), text, "php-fpm")
        return made(level, message[fpm.end():], text, "php-fpm") if level else None
    if "Uncaught " in message:
        return made("critical", message, text)
    return generic(message, text)


def wordpress(text: str) -> Event | None:
    """debug.log of WordPress, and the logs of WooCommerce."""
    found = re.match(r"\d{4}-\d\d-\d\dT\S+ ([A-Z]+) (.*)", text, re.DOTALL)
    if not found:
        return php(text)
    level = WORD_LEVELS.get(found[1].lower())
    return made(level, _CONTEXT.sub("", found[2]).partition(" CONTEXT: ")[0], text, "woocommerce") if level else None


_PLACED = re.compile(r"(.{1,1000}?) (?:in|at) (/[^\s:]{1,500}\.\w{2,5})(?: on line | line |:)\d+")        # where PHP says that it happened


def monolog(text: str) -> Event | None:
    """Magento, Shopware, Symfony, Laravel."""
    found = re.match(r"\[[^\]]+\] ([\w.\-]+)\.([A-Z]+): (.*)", text, re.DOTALL)
    level = WORD_LEVELS.get(found[2].lower()) if found else None
    if not found or not level:
        return None
    first, line_break, _ = found[3].partition("\n")
    message = first if line_break and "{" not in first else re.split(r' \{"|  ?\[\] \[', found[3], maxsplit=1)[0]
    event = made(level, message, text, "" if found[1] in {"main", "app", "production", "local", "prod", "dev"} else found[1])
    placed = None if event.frames else _PLACED.match(message)
    return replace(event, message=placed[1], frames=(Frame(placed[2]),)) if placed else event


def worded(text: str) -> Event | None:
    """Loggers that name the level in capitals, or in brackets, near the beginning of the line."""
    first = text.partition("\n")[0]
    found = _LEVEL.search(first[:_HEAD])
    level = WORD_LEVELS.get(found["level"].lower()) if found else None
    if level is None or found is None:
        if "Traceback (most recent call last)" in text or "Exception in thread" in first:
            return made("critical" if "Exception in thread" in first else "error", first, text)
        if found is None:
            return request(first) or generic(text)
        return None
    message = first[found.end():]
    source = _SOURCE.match(message)
    named = next((name for name in source.groups() if name), "") if source else ""
    said = message[source.end():] if source else message
    return made(level, said.strip(" :-") or text[len(first):].strip(), text, named)


def node(text: str) -> Event | None:
    """What programs in Node write, and how Node itself tells an exception that nobody caught."""
    crashed = _CRASHED.match(text)
    return made("critical", crashed[1], text) if crashed else worded(text)


def postgresql(text: str) -> Event | None:
    """PostgreSQL's log; details and the statement are further lines of the same event."""
    found = re.search(r"\b(ERROR|FATAL|PANIC|WARNING):  (.*)", text.partition("\n")[0])
    return Event(WORD_LEVELS[found[1].lower()], found[2], "postgresql") if found else None


def syslog(text: str) -> Event | None:
    """RFC 3164 and 5424, as a file or with the priority. The message is looked at as well."""
    found = _SYSLOG.match(text)
    if not found:
        return generic(text)
    inner = worded(found["said"])
    level = _SEVERITY[int(found["pri"]) & 7] if found["pri"] else None
    if level is None:
        return Event(inner.level, inner.message, found["program"], inner.exception, inner.frames) if inner else None
    if inner is None:
        return made(level, found["said"], "", found["program"])
    return Event(worse(level, inner.level), inner.message, found["program"], inner.exception, inner.frames)


def generic(message: str, text: str = "") -> Event | None:
    """A line of which nothing is known: by the worst word in it. "0 errors" is none."""
    said = _NONE.sub("", message[:_LOOKED_AT])
    level = next((level for level, words in _WORDS.items() if words.search(said)), None)
    return made(level, message, text or message) if level else None


def priorities(level: Level) -> str:
    """A pattern for the priorities of this level."""
    return f"^<(?:{'|'.join(str(number) for number in range(192) if _SEVERITY[number & 7] == level)})>"


def quick(text: bytes) -> bytes:
    """`Format.quick` where digits may decide."""
    return _decided(text) + plain(text)


def core(text: bytes) -> bytes:
    """`Format.core` where digits may decide."""
    return _decided(text) + _core(text)


def syslog_quick(text: bytes) -> bytes:
    """Here the priority does, too."""
    return kept(text[:text.find(b">", 0, 6) + 1]) + quick(text)


def syslog_core(text: bytes) -> bytes:
    """Here the priority does, too."""
    return kept(text[:text.find(b">", 0, 6) + 1]) + core(text)


def _decided(text: bytes) -> bytes:
    """What digits decide: whether there are "0 errors", and whether a request failed."""
    head = text[:_LOOKED_AT]
    if not _DECISIVE.search(head):
        return b""
    failed = _REQUEST.search(head.decode("utf-8", "replace"))
    return b"\0".join((plain(_NONE_BYTES.sub(b"", head)), kept(failed["status"].encode()) if failed else b"", b""))
