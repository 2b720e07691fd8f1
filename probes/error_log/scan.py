"""Going through a log piece by piece: only what may be an event is looked at, and only what was never seen before is read.

A line that may be an event is found by the format's pattern. Then it is looked up without its digits; so an error that is known costs a few
microseconds, and only a new one is parsed.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from probes.error_log import access, formats_json
from probes.error_log.engine import compiled, finder, lines
from probes.error_log.event import LEVELS, Event, Level, worse
from probes.error_log.formats import FORMATS, Format, json_format
from probes.error_log.formats_text import made
from probes.error_log.modules import top_own
from probes.error_log.scan_events import Events
from probes.error_log.scan_keys import plain
from probes.error_log.seen import key
from probes.error_log.signature import signature
from probes.error_log.tally import Known, Tally

MOST_CACHED = 20_000       # events that are known again at each look; each takes some 100 bytes
SHOWN = 2_000              # characters of an event of which an example is made
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
_NOTHING = r"[^\x00-\xff]" # a pattern that nothing matches
_UNSEEN = Known("warning", "", "")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Keys(Protocol):
    """What the fields of JSON lines are called, where they are not called as usual."""

    @property
    def level(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def exception(self) -> str: ...


class Scanner:
    """Reads logs of one format into `tally`, which is put there before each run. It may be thrown away at any time.

    `pattern` (re2) says what is an error, whatever the format would say, `start_pattern` how an event begins. `slow` is in s. Raises ValueError for
    a pattern that re2 does not understand.
    """

    def __init__(self, format_: str, *, level: Level = "warning", pattern: str = "", start_pattern: str = "",
                 groups: Mapping[str, Sequence[str]] | None = None, slow: float = 2.0, keys: Keys | None = None, fast: bool = True) -> None:
        self.tally = Tally()
        self._format, self._least = _format(format_, keys), LEVELS.index(level)
        self._requests = access.Requests(groups, slow) if self._format.requests and not pattern else None
        self._own = compiled(pattern) if pattern else None
        self._find = finder(pattern or (access.FAILED if self._requests else self._format.pattern(level) or _NOTHING), fast=fast)
        self._find_slow = finder(access.pattern(slow), fast=fast) if self._requests else self._find
        self._whole = Events(self._format.starts, start_pattern, self._find).whole
        self._lonely = self._format.requests or bool(pattern and not start_pattern)              # every line is an event of its own
        self._alone = ord("{") if format_ == "json" and not pattern else -1                       # or every one that begins so
        # By hashes: they are of 64 bits, and different after each start.
        self._known: dict[int, Known | None] = {}                # of the events without digits
        self._alike: dict[int, Known | None] = {}                # of what decides in them
        self._failed: dict[access.Failed, Known] = {}
        self._named: dict[Hashable, str] = {}                    # signatures by what they are made of

    def read(self, data: bytes, final: bool) -> int:
        """Count the lines and events of a piece that begins with a line; how many bytes were taken.

        An event at its end that may go on is left for the next piece, unless this one is `final`.
        """
        taken, end = len(data), 0
        find = self._find_slow if self._requests and self._requests.timed(data, self.tally) else self._find
        for begin, stop in lines(data, find(data)):
            if begin < end:
                continue                                         # a part of the event before
            if self._own and not self._own.search(data[begin:stop]):
                continue
            if self._lonely or (stop > begin and data[begin] == self._alone):
                text, end = data[begin:stop], stop + 1
            else:
                text, end, goes_on = self._whole(data, begin, stop)
                if goes_on and not final:
                    taken = begin
                    break
            if not self._requests:
                self._add(text)
            elif failed := self._requests.look(text, self.tally):
                self._fail(failed, text)
        piece = data if taken == len(data) else data[:taken]
        self.tally.lines += piece.count(b"\n") + (0 if piece.endswith(b"\n") or not piece else 1)
        if self._requests:
            self._requests.count(piece, self.tally)
        return taken

    def entry(self, text: bytes, floor: Level | None) -> None:
        """Count one whole event that somebody else knows to be one, at the worse of `floor` and the level that it tells itself."""
        self.tally.lines += 1
        if not self._own or self._own.search(text):
            self._add(text, floor)

    def _add(self, text: bytes, floor: Level | None = None) -> None:
        text = _bounded(text, self._format.longest)
        first = hash((floor, self._format.quick(text)))
        known = self._known.get(first, _UNSEEN)
        if known is _UNSEEN:
            known = _put(self._known, first, self._recalled(text, floor))
        if known:
            self.tally.add(known)

    def _recalled(self, text: bytes, floor: Level | None) -> Known | None:
        """An event that was seen in other words: with other frames, or other hashes."""
        core = self._format.core(text)
        second = hash((floor, plain(core)))
        known = self._alike.get(second, _UNSEEN)
        if known is _UNSEEN:
            third = hash((floor, key(core)))
            known = self._alike.get(third, _UNSEEN)
            if known is _UNSEEN:
                known = _put(self._alike, third, self._looked_at(text, floor))
            _put(self._alike, second, known)
        return known

    def _fail(self, failed: access.Failed, text: bytes) -> None:
        """Count a request that the server failed."""
        known = self._failed.get(failed)
        if known is None:
            event = Event("error", failed.told(), "access")
            known = _put(self._failed, failed, Known(event.level, signature(event), failed.shown(text)))
        if LEVELS.index(known.level) <= self._least:
            self.tally.add(known)

    def _looked_at(self, text: bytes, floor: Level | None) -> Known | None:
        said = text.decode("utf-8", "replace")
        event = self._format.read(said)
        if least := worse(floor, "error") if floor and self._own else "error" if self._own else floor:
            event = replace(event, level=worse(event.level, least)) if event else made(least, said, said)
        if event is None or LEVELS.index(event.level) > self._least:
            return None
        return Known(event.level, self._name(event), said[:SHOWN])

    def _name(self, event: Event) -> str:
        """The signature. Traces of one fault differ in the way that led there, so most of them were named before."""
        parts = event.level, event.exception, event.message.translate(_NO_DIGITS), event.source, top_own(event.frames)
        name = self._named.get(parts)
        return name if name is not None else _put(self._named, parts, signature(event))


def _format(name: str, keys: Keys | None) -> Format:
    if name == "json" and keys and (keys.level or keys.message or keys.exception):
        return json_format(formats_json.Names.of(keys.level, keys.message, keys.exception))
    return FORMATS[name]


def _bounded(text: bytes, longest: int) -> bytes:
    """A long event without its middle: PHP and Java begin with the exception, Python ends with it."""
    if len(text) <= longest:
        return text
    end = len(text) - longest // 2
    return text[:longest // 2] + text[max(text.find(b"\n", end), end):]


def _put(known: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    """Remember it, and forget all when that is too many."""
    if len(known) >= MOST_CACHED:
        known.clear()
    known[key] = value
    return value
