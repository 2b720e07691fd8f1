"""What of a piece of a file is handed to its reader: whole lines, what may still go on later, and what never ends not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from probes.error_log.event import LONGEST

PATIENCE = 30.0             # s that an unended line is waited for, and a rotated file for more
IDLE = 1.0                  # s without a write after which an event has surely ended
_GROUP = 500                # lines that an event has at most

Reader = Callable[[bytes, bool], int]       # (data, final) → bytes taken

_BOMS = ((b"\xef\xbb\xbf", ""), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of which lines are about to be handed out."""

    path: str               # its name for people: of a rotated file, the one that it was written under
    head: bytes             # its first bytes, at most 16 KiB, by which its format is recognised
    device: int
    inode: int


class Slice(NamedTuple):
    """What became of a piece of a file."""

    taken: int              # bytes of the piece that need not be read again
    end: bool = False       # there is nothing more to do with the file for now
    since: float = 0.0      # as in `Position`
    inside: bool = False
    partial: int = 0        # lines handed out without their end
    held: bool = False      # lines were left for when it is known whether they go on


class Circumstances(NamedTuple):
    """What must be known beside the bytes."""

    now: float
    last: bool              # the piece ends where the file does
    full: bool              # it is as long as a piece can be
    final: bool             # nothing more is to be expected soon
    forced: bool            # ... nor ever
    since: float = 0.0
    inside: bool = False


def encoding(first: bytes) -> tuple[str, int]:
    """How a file that begins like this is written, "" for anything that is read byte by byte; and the bytes that say so."""
    return next(((codec, len(bom)) for bom, codec in _BOMS if first.startswith(bom)), ("", 0))


def as_utf8(raw: bytes, codec: str) -> bytes:
    """The bytes as UTF-8; what is no text comes through as it can."""
    if not codec:
        return raw
    return raw[: len(raw) & ~1].decode(codec, "surrogatepass").encode("utf-8", "surrogatepass")


def _raw(text: bytes, codec: str) -> int:
    """How many bytes of the file this text was."""
    return len(text.decode("utf-8", "surrogatepass").encode(codec, "surrogatepass")) if codec else len(text)


def hand_out(raw: bytes, codec: str, reader: Reader, at: Circumstances) -> Slice:
    """Give a piece of a file that begins at a line's beginning, or inside one, to its reader."""
    text = as_utf8(raw, codec)
    if at.inside:
        behind = text.find(b"\n") + 1
        return Slice(_raw(text[:behind], codec)) if behind else Slice(len(raw), at.last, inside=True)
    cut = text.rfind(b"\n") + 1
    hole = -1 if codec else text.find(b"\n\0", 0, cut)
    if hole >= 0:
        taken = _give(text[: hole + 1], reader, final=True, full=False)
        return Slice(taken, end=not taken)
    if cut:
        return _whole_lines(text, cut, codec, reader, at)
    return _unended(raw, text, reader, at)


def _whole_lines(text: bytes, cut: int, codec: str, reader: Reader, at: Circumstances) -> Slice:
    taken = _give(text[:cut], reader, final=at.last and at.final, full=at.full)
    rest = at.last and taken == cut and text[cut:].strip(b"\0")
    return Slice(_raw(text[:taken], codec), not taken or (at.last and not (rest and at.forced)), at.now if rest else 0.0, held=taken < cut)


def _unended(raw: bytes, text: bytes, reader: Reader, at: Circumstances) -> Slice:
    """A line of which the end is not there: it waits, but not for ever. What still comes of it is then skipped."""
    if not text.strip(b"\0"):
        return Slice(0, end=True)
    since = min(at.since or at.now, at.now)
    if at.full or (at.last and (at.forced or at.now - since >= PATIENCE)):
        reader(text[:LONGEST], True)
        return Slice(len(raw), at.last, inside=True, partial=1)
    return Slice(0, end=True, since=since)


def _give(lines: bytes, reader: Reader, *, final: bool, full: bool) -> int:
    """How much of whole lines the reader took. What it holds back must not grow without bounds."""
    taken = reader(lines, final)
    held = lines[taken:]
    if held and ((full and not taken) or final or held.count(b"\n") >= _GROUP):
        taken += reader(held, True)
    return min(taken, len(lines))
