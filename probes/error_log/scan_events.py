"""Which lines make one event: that with which it begins, and those that go on with it, also behind lines of another writer."""

import re
from collections.abc import Callable
from typing import cast

from probes.error_log.engine import Finder, compiled

MOST_LINES = 500           # of one event; the rest is passed over
LONGEST_EVENT = 256 * 1024 # bytes
AHEAD = 3                  # lines of other writers that may stand in the middle of a trace
MOST_PARTS = 100           # of an event between which there were other lines
_LOOKED_AT = 200           # bytes of a line by which it is told what it is
_HEAD = 4096               # bytes of an event in which a Python trace begins, if it has one

# Lines that go on with a trace, whoever wrote it.
_TRACE = re.compile(
    rb"[ \t]+\S|#\d+ |Stack trace:|Caused by:|Suppressed: |Traceback \(most recent|During handling of |The above exception |Next [A-Z]"
    rb"|\[(?:stacktrace|previous)"
    rb'|"\}|\}\s*$|Node\.js v|Emitted \'\w+\' event|\[\d\d-[^\]\n]{1,40}\] WARNING: \[pool'
    rb"|\r?\n[ \t]+(?:at |from |\S+\.rb)|\r?\n(?:Node\.js v|During handling of |The above exception |Next [A-Z]|Traceback )")
_EXCEPTION, _FRAME = re.compile(rb"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Warning|Exist|Exit|Timeout|Interrupt)\b"), re.compile(rb"[ \t]+at ")
# A line in the middle of a trace; lines that can be nothing else; lines that begin a trace of their own.
_INSIDE = re.compile(rb"(?!  thrown in )(?:[ \t]+\S|#\d+ |Stack trace:)")
_RESUMES = re.compile(rb'[ \t]+(?:File "|at |\.\.\. \d)|#\d+ |Stack trace:|  thrown in|Caused by: ')
_INTRODUCES = re.compile(rb"Traceback |Uncaught |(?:Exception|Error)\b")
# Node tells an exception that nobody caught below the line of code that threw it.
_CRASHED = re.compile(rb"(?:/|file://|node:|[A-Za-z]:\\)[^\n]*:\d+\r?\n(?:[^\n]{0,2000}\n){1,3}?[ \t]*\^+\r?\n(?:\r?\n)?[^\n]*(?:\n|\Z)")
_PYTHON, _RAISED = b"Traceback (most recent call last)", re.compile(rb"[A-Za-z_][\w.]*(?:: |\r?$)", re.MULTILINE)
_SAID, _PHP = re.compile(rb'\[[^\]\n]{1,40}\] (WARNING: \[pool [^\]\n]{1,60}\] child \d+,? said into std(?:err|out): ")'), b"NOTICE: PHP message: "
_WRAPS = 1000              # bytes of a line from which on PHP-FPM may wrap: its log_limit is 1024
_PATHS = frozenset((b"/", b"f", b"n", *(bytes([drive]) for drive in b"CDEcde")))
Search = Callable[[bytes, int, int], re.Match[bytes] | None]


class Events:
    """Puts together the lines of events. `starts` is how the first line of one looks, of the format or as a user's pattern (re2).

    Without it only what looks like a part of a trace goes on with the line above.
    """

    def __init__(self, starts: re.Pattern[bytes] | None, own: str, find: Finder) -> None:
        self._find, self._own = find, bool(own)
        self._next_start = _searcher(starts, own)
        self._is_start = starts.match if starts else None

    def whole(self, data: bytes, begin: int, stop: int) -> tuple[bytes, int, bool]:
        """The event that begins with the line from `begin` to `stop`; where the search goes on behind it, and whether it may go on behind `data`."""
        limit = begin + LONGEST_EVENT
        if data[begin:begin + 1] in _PATHS and (crashed := _CRASHED.match(data, begin)):
            stop = crashed.end() - 1 if data[crashed.end() - 1:crashed.end()] == b"\n" else crashed.end()
        if self._is_start and not self._own and self._is_start(data, stop + 1) and not _opens(data, begin, stop) and data[stop + 1:stop + 2] != b"[":
            return data[begin:stop], stop + 1, False           # what most events are: one line
        traceback = data.find(_PYTHON, begin, begin + _HEAD)
        python = traceback >= 0
        size = _another(data, traceback, len(data)) if python else len(data)
        end = self._next(data, stop + 1, limit, size, python=python)
        parts, goes_on = [(begin, end - 1)], end >= len(data)
        while not goes_on and end < limit and not self._own and len(parts) < MOST_PARTS:
            place, goes_on = self._resumed(data, parts[-1], end, python=python)
            if not place:
                break
            end = self._next(data, data.find(b"\n", place) + 1 or len(data) + 1, limit, len(data), python=python)
            parts.append((place, end - 1))
            goes_on = end >= len(data)
        text = data[begin:parts[0][1]] if len(parts) == 1 else b"\n".join([data[first:last] for first, last in parts])
        kept = _kept(text)
        return kept, end, goes_on and len(kept) == len(text)

    def _next(self, data: bytes, place: int, limit: int, size: int, *, python: bool) -> int:
        """Where the event ends, when the lines from `place` on may belong to it, and those from `size` on do not."""
        if self._next_start and place < size:
            found = self._next_start(data, place, size)
            while found and not self._own and _wrapped(data, found.start()):
                found = self._next_start(data, found.end(), size)
            return found.start() if found else size + (size == len(data) and not data.endswith(b"\n"))
        while place < size and (_TRACE.match(data, place, place + _LOOKED_AT) or self._tells(data, place, limit, python=python)):
            place = data.find(b"\n", place) + 1 or len(data) + 1
        return place

    def _tells(self, data: bytes, place: int, limit: int, *, python: bool) -> bool:
        """Whether a line tells the exception of the trace above it. Below a frame of Java or Node it is the first line of another one."""
        exception = _EXCEPTION.match(data, place, place + _LOOKED_AT)
        if place >= limit or not (exception or python):
            return False
        last = data.rfind(b"\n", 0, place - 1) + 1
        return not _FRAME.match(data, last, place) if exception else self._raises(data, last, place)

    def _resumed(self, data: bytes, part: tuple[int, int], end: int, *, python: bool) -> tuple[int, bool]:
        """Where a trace goes on behind lines of other writers, at most AHEAD of them and none an event; 0 when it does not. And whether `data` is
        too short to tell."""
        last = data.rfind(b"\n", *part) + 1 or part[0]
        if not (_INSIDE.match(data, last, part[1]) or _opens(data, last, part[1])):
            return 0, False
        before = end
        for _ in range(AHEAD):
            after = data.find(b"\n", before) + 1
            if not after or after >= len(data):
                return 0, True
            if _RESUMES.match(data, after, after + _LOOKED_AT) or (python and self._raises(data, last, after)):
                another = _INTRODUCES.search(data, before, after) or self._find(data[end:after - 1])
                return (0 if another else after), False
            before = after
        return 0, False

    def _raises(self, data: bytes, last: int, place: int) -> bool:
        """Whether the line at `place` tells the exception at the end of a Python trace, whatever its name is, when `last` was the line before."""
        return (data[last:last + 1] in {b" ", b"\t"} and _RAISED.match(data, place, place + _LOOKED_AT) is not None
                and not (self._is_start and self._is_start(data, place)))


def _opens(data: bytes, begin: int, end: int) -> bool:
    """Whether the frames of a trace should stand below this line."""
    return data.find(b"Uncaught ", begin, end) >= 0 or data.find(_PYTHON, begin, end) >= 0


def _wrapped(data: bytes, place: int) -> bool:
    """Whether PHP-FPM has put there what of a message was too long for the line above. Nothing in the text says so."""
    if place < _WRAPS or data[place:place + 1] != b"[" or not (said := _SAID.match(data, place, place + _LOOKED_AT)):
        return False
    begin = data.rfind(b"\n", 0, place - 1) + 1
    above = _SAID.match(data, begin, begin + _LOOKED_AT) if place - begin > _WRAPS else None
    return above is not None and above[1] == said[1] and not data.startswith(_PHP, said.end())


def _another(data: bytes, traceback: int, end: int) -> int:
    """Where another Python trace begins that stands below the first one and is not chained to it, which the lines above it would say; else `end`."""
    line = b"\n" + _PYTHON
    place = data.find(line, traceback, end)
    while place >= 0:
        if data.find(b" exception", max(place - _LOOKED_AT, traceback), place) < 0:
            return place + 1
        place = data.find(line, place + 1, end)
    return end


def _kept(text: bytes) -> bytes:
    """What of a long event is looked at: so many bytes and lines."""
    if len(text) > LONGEST_EVENT:
        cut = text.rfind(b"\n", 0, LONGEST_EVENT)
        text = text[:cut if cut > 0 else LONGEST_EVENT]
    if text.count(b"\n") < MOST_LINES:
        return text
    place = -1
    for _ in range(MOST_LINES):
        place = text.find(b"\n", place + 1)
    return text[:place]


def _searcher(starts: re.Pattern[bytes] | None, own: str) -> Search | None:
    """Finds the next line with which an event begins; None for a format that does not say."""
    if own:
        return cast("Search", compiled(f"^(?:{own})").search)
    return re.compile(rb"^(?:" + starts.pattern + rb")", re.MULTILINE).search if starts else None
