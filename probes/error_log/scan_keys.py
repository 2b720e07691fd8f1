"""Knowing an event again by its bytes, so that only new ones are read.

First without digits, then without the frames of a trace that its signature does not name, as the same fault is reached on many ways, and at
last without what could be a hash. Whatever has another level or another signature stays apart.
"""

import re
from functools import lru_cache
from itertools import islice
from typing import Final

from probes.error_log.modules import is_foreign
from probes.error_log.traces import MOST_FRAMES

DIGITS: Final = b"0123456789"
_LETTERS = bytes.maketrans(DIGITS, b"zyxwvutsrq")
_PYTHON_FRAME = re.compile(rb'\n  File "([^"\n]*)", line \d+, in (\S[^\n]*)')
_PHP_FIRST, _PHP_LAST = b"\n#0 ", b"{main}"
_PHP_PLACE = re.compile(rb" (?:in|at) (/[^\s:)]+)(?::| on line )\d")
_AT_FRAME = re.compile(rb"\n[ \t]+at ([^\n]{0,200})")
_JAVA = re.compile(rb"(?:[\w.@/-]+/)?([\w.$<>]+)\.[\w$<>]+\([^()]*\)")
_NODE = re.compile(rb"(?:[^\n]*\()?((?:file://|node:|/|[A-Za-z]:\\|webpack)[^()\n]*?):\d+(?::\d+)?\)?\r?$")
_OTHER_AT = (b":line ", b"---> ", b"   at System.", b"Suppressed: ")      # .NET, and what Java has beside the causes


def plain(text: bytes) -> bytes:
    """Without digits: 1 µs for each KiB."""
    return text.translate(None, DIGITS)


def kept(numbers: bytes) -> bytes:
    """Digits that `plain` leaves where they are."""
    return numbers.translate(_LETTERS)


def core(text: bytes) -> bytes:
    """A trace without the frames that do not count for its signature; any other text as it is."""
    if b'\n  File "' in text:
        return _python(text)
    if _PHP_FIRST in text:
        return _php(text)
    return _at(text) if b"at " in text and not any(sign in text for sign in _OTHER_AT) else text


def _python(text: bytes) -> bytes:
    block = text.find(b'\n  File "', max(text.rfind(b"Traceback (most recent call last)"), 0))
    frames = _PYTHON_FRAME.findall(text, block) if block >= 0 else []
    if not 0 < len(frames) <= MOST_FRAMES:
        return text
    path, function = next((frame for frame in reversed(frames) if not _foreign(frame[0])), frames[-1])
    end = text.find(b"\n", text.rfind(b'\n  File "') + 1)
    while end >= 0 and text[end + 1:end + 2] == b" ":
        end = text.find(b"\n", end + 1)
    return b"\n".join((text[:text.find(b'\n  File "')], path, function, text[end:] if end >= 0 else b""))


def _php(text: bytes) -> bytes:
    """Only when the file that threw is the shop's own: it and the function in it, which the first two lines tell, are what counts."""
    first = text.find(_PHP_FIRST)
    places = _PHP_PLACE.findall(text, 0, first)
    if len(places) != 1 or _foreign(places[0]):
        return text
    end = text.find(b"\n", text.find(b"\n", first + 1) + 1)
    if end < 0:
        return text
    main = text.rfind(_PHP_LAST)
    return text[:end] + (text[main:] if main > end else b"")


def _at(text: bytes) -> bytes:
    """Java and Node: what stands above the frames, and the frames down to the first of one's own; of a chain those of the first cause."""
    cause = max(text.rfind(b"\nCaused by: "), 0)
    frames = list(islice(_AT_FRAME.finditer(text, cause), MOST_FRAMES))
    own = next((frame for frame in frames if not _foreign_at(frame[1])), None)
    if own is None:
        return text
    above = text[:cause] if cause else b""
    first = _AT_FRAME.search(above)
    return above[:first.start() if first else cause] + text[cause:own.end()]


@lru_cache(4096)
def _foreign(path: bytes) -> bool:
    return is_foreign(path.decode("utf-8", "replace"))


@lru_cache(4096)
def _foreign_at(frame: bytes) -> bool:
    """Whether a frame of Java or Node is of others; so is one that cannot be read."""
    if java := _JAVA.match(frame):
        return _foreign(java[1].partition(b"$$")[0].replace(b".", b"/"))
    node = _NODE.match(frame)
    return node is None or _foreign(node[1].removeprefix(b"file://"))
