"""One read of all files that are followed."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from probes.error_log.archives import ArchiveError
from probes.error_log.positions import HEAD, TAIL, Position, Positions
from probes.error_log.tail_families import Family, Generation
from probes.error_log.tail_find import words
from probes.error_log.tail_memory import Memory
from probes.error_log.tail_places import Places
from probes.error_log.tail_slices import IDLE, PATIENCE, Circumstances, Opened, Reader, Slice, as_utf8, encoding, hand_out
from probes.error_log.tail_source import SLICE, Look, Marks, Source, look_into, marked, marks

_HEAD = 16 * 1024               # bytes of a file by which its format is recognised
_UNLINKED = 60.0                # s that a deleted file is kept open for what its writer may still write
_VANISHED = 86400.0             # s that a file which is nowhere is remembered: a disk may be mounted again
_MOST_VANISHED = 1_000
_CROWD = 64                     # generations of one path

Open = Callable[[Opened], Reader]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read came to. Only if `positions` are kept has it happened."""

    positions: Positions
    files: int                              # that stand at their paths and can be read
    behind: int                             # bytes that are there and were not taken; of archives as they are compressed
    read_bytes: int                         # bytes taken
    partial: int                            # lines handed out without their ends
    problems: Mapping[str, str]             # path, folder or pattern → why it cannot be followed
    gaps: tuple[tuple[str, str], ...]       # (path, what was lost of it)


class _Piece(NamedTuple):
    source: Source
    raw: bytes
    full: bool                  # as much as a piece has at most
    start: int                  # where the piece begins: at the offset, or behind what only says the encoding, or behind a hole
    marks: Marks
    look: Look                  # after reading: it is not older than the piece
    codec: str


class Run:
    """What happens in one call of `Tail.read`."""

    def __init__(self, memory: Memory, places: Places, opened: Open, now: float) -> None:
        self._memory, self._places, self._opened, self._now = memory, places, opened, now
        self._read_bytes = self._partial = 0
        self._gaps: list[tuple[str, str]] = []

    def read(self, more: Callable[[], bool]) -> Reading:
        """Read on everywhere, in turns, as long as there is time for more."""
        self._places.find()
        self._take_turns(more)
        for family in self._families():
            if not family.quiet:
                self._retire(family)
        self._forget_vanished()
        self._memory.forget_all_but(self._places.families)
        families = self._families()
        return Reading(
            positions=Positions(tuple(one for family in families for one in family.positions()), self._places.scanned),
            files=sum(bool(one.generations and one.newest.home == one.path and one.path not in self._places.problems) for one in families),
            behind=sum(_behind(one) for family in families for one in family.generations),
            read_bytes=self._read_bytes, partial=self._partial, problems=self._places.problems, gaps=tuple(self._gaps))

    def _families(self) -> list[Family]:
        return list(self._places.families.values())

    def _take_turns(self, more: Callable[[], bool]) -> None:
        waiting = deque(sorted(
            (one for one in self._families() if not one.quiet), key=lambda one: (one.path < self._memory.turn, one.path)))
        first = True
        while waiting and (first or more()):            # the first turn is always taken, or there might never be one
            first = False
            family = waiting.popleft()
            generation = next((one for one in family.generations if not one.end), None)
            if generation:
                self._turn(family, generation)
                if generation.position.packed and not generation.end:
                    waiting.appendleft(family)          # few archives are kept open: they are read one after the other
                else:
                    waiting.append(family)
        self._memory.turn = waiting[0].path if waiting else ""

    def _turn(self, family: Family, generation: Generation) -> None:
        """Read one piece of a generation, and hand it out."""
        at = generation.position
        try:
            source = self._places.source(generation)
            if source is None:
                generation.end = True
                return
            generation.look = generation.look or look_into(source)
            if not source.reach(at.offset):
                return
            piece = self._piece(generation, source)
        except OSError as error:
            self._broken(family, generation, error)
            return
        if piece is not None:
            self._hand_out(family, generation, piece)
        elif at.packed:
            self._give_up(family, generation, "what was left of it is not in its archive")
        else:
            self._lost(family, generation)

    def _piece(self, generation: Generation, source: Source) -> _Piece | None:
        """The next bytes of a file; None when the file has been truncated, or is another one.

        Whether it is still the same is looked at after reading: before, it could still have been, and not be so any more.
        """
        at, limit = generation.position, generation.limit
        room = SLICE if limit is None else min(SLICE, limit - at.offset)
        raw = source.read(at.offset, room) if room > 0 else b""
        start = at.offset
        if raw.startswith(b"\0") and not at.inside and not encoding(source.read(0, 3))[0]:
            start = source.data_from(at.offset)
            raw = source.read(start, room) if start > at.offset else raw
        after, found = look_into(source), marks(at, source)
        if found is None or (not at.offset and not start and not found.first.startswith(raw[:HEAD])):
            return None
        full = len(raw) >= SLICE
        codec, length = encoding(found.first)
        if not start and length <= len(raw):
            start, raw = length, raw[length:]
        return _Piece(source, raw, full, start, found, after, codec)

    def _hand_out(self, family: Family, generation: Generation, piece: _Piece) -> None:
        at, stands = generation.position, generation is family.newest and generation.home == family.path
        end = piece.start + len(piece.raw)
        limited = generation.limit is not None and end >= generation.limit and not at.packed
        last = not piece.full and not (limited and piece.look.size > end)
        grown = piece.look.mtime != at.seen and not at.packed
        quiet = 0.0 if stands else self._now if grown or not at.quiet else min(at.quiet, self._now)
        ended = at.packed or family.ended(generation)
        forced = at.packed or (not stands and ended and self._now - quiet >= PATIENCE)
        raw = piece.raw[: len(piece.raw) & ~1] if piece.codec else piece.raw
        result = hand_out(raw, piece.codec, self._lazy(family, generation, piece), Circumstances(
            self._now, last, piece.full, ended or self._idle(piece.look), forced, at.since, at.inside))
        generation.position = self._advanced(at, piece, result)._replace(
            since=result.since, inside=result.inside, quiet=quiet, idle=False, seen=at.seen if at.packed else piece.look.mtime)
        if generation.position == at:
            generation.position = at
        self._partial += result.partial
        self._read_bytes += generation.position.offset - at.offset
        generation.end = result.end or (limited and not result.taken)
        generation.forced = forced
        if generation.end and stands and generation.look:
            self._memory.remember(generation.position, generation.look, self._now, _wake(result, piece.look, self._now))
        generation.after = piece.look

    def _advanced(self, at: Position, piece: _Piece, result: Slice) -> Position:
        offset = piece.start + result.taken
        if offset == at.offset:
            return marked(at, piece.marks, offset)
        last = piece.marks.last + piece.raw[: result.taken]
        if piece.start != at.offset:                    # something was skipped
            last = piece.source.read(max(offset - TAIL, 0), min(offset, TAIL))
        return marked(at, Marks(piece.marks.first, last[-TAIL:]), offset)

    def _lazy(self, family: Family, generation: Generation, piece: _Piece) -> Reader:
        """The reader of a generation, asked for when there is something to read: most looks find nothing."""
        def reader(data: bytes, final: bool) -> int:
            if generation.reader is None:
                head = as_utf8(piece.source.read(0, _HEAD), piece.codec).removeprefix(b"\xef\xbb\xbf").lstrip(b"\0")
                at = generation.position
                generation.reader = self._opened(Opened(family.path, head, at.device, at.inode))
            return generation.reader(data, final)
        return reader

    def _idle(self, look: Look) -> bool:
        """Whether nothing was written for a while. A clock that is ahead or behind must not make us wait for ever."""
        return self._now - look.mtime / 1e9 >= IDLE or self._memory.still(look, self._now) >= IDLE

    def _broken(self, family: Family, generation: Generation, error: OSError) -> None:
        generation.end = True
        if isinstance(error, FileNotFoundError):        # moved in this moment: the next read looks for it
            return
        self._places.problems[generation.home or family.path] = words(error)
        if isinstance(error, ArchiveError):
            self._give_up(family, generation, f"its archive cannot be read: {error}")
        else:
            self._memory.descriptors.drop(generation.position.identity)

    def _lost(self, family: Family, generation: Generation) -> None:
        stood = generation is family.newest and generation.home == family.path
        self._places.lose(family, generation)
        if stood and not self._places.located(generation) and family.newest is not generation:
            if generation.outrun:
                family.finish(generation)
            else:
                self._give_up(family, generation, "truncated or replaced; what was written to it after the last look is lost")

    def _give_up(self, family: Family, generation: Generation, why: str) -> None:
        if not generation.position.idle:
            self._gaps.append((family.path, why))
        family.finish(generation)

    def _retire(self, family: Family) -> None:
        """Let go of generations to which nobody writes any more."""
        for one in list(family.generations):
            stands = one is family.newest and one.home == family.path
            if stands:
                continue
            at = one.position
            if not at.quiet or at.quiet > self._now:
                at = one.position = at._replace(quiet=self._now)
            if one is family.newest and not family.superseded:
                self._retire_vanished(family, one, self._now - at.quiet)
            elif not self._places.located(one):
                if self._now - at.quiet >= PATIENCE:
                    self._give_up(family, one, "rotated away and not found; what was not yet read of it is lost")
            elif one.end and ((one.forced and family.ended(one)) or at.packed or len(family.generations) > _CROWD):
                self._finish(family, one)

    def _finish(self, family: Family, one: Generation) -> None:
        """Nobody writes to it any more, or at least not under its path."""
        if not self._places.move(family, one):
            self._memory.descriptors.drop(one.position.identity)
            family.finish(one)

    def _retire_vanished(self, family: Family, one: Generation, waited: float) -> None:
        """The newest generation no longer stands at its path, and nothing else does."""
        located = self._places.located(one)
        if located and one.end and waited >= PATIENCE and self._places.move(family, one):
            return
        if (located and one.end and waited >= _UNLINKED and one.after and not one.after.links) or waited >= _VANISHED:
            self._memory.descriptors.drop(one.position.identity)
            if not located and not one.position.idle:
                self._gaps.append((family.path, "gone; what was not yet read of it is lost"))
            family.finish(one)

    def _forget_vanished(self) -> None:
        """A folder in which files come and go must not make us remember all that ever was."""
        families = self._places.families
        vanished = []
        for family in self._families():
            if family.generations:
                if family.absent and not self._places.located(family.newest):
                    vanished.append(family)
            elif isinstance(self._places.look(family.path), str) and not (self._places.kept(family) or self._copied_lately(family)):
                del families[family.path]
        vanished.sort(key=lambda one: one.newest.position.quiet)
        for family in vanished[:-_MOST_VANISHED]:
            del families[family.path]

    def _copied_lately(self, family: Family) -> bool:
        """Whether a copy that is not at its path was there a moment ago: the look through the patterns may be older than its move."""
        for one in family.done:
            if one.copy and not one.quiet:
                family.done[family.done.index(one)] = one._replace(quiet=self._now)
        return any(one.copy and self._now - (one.quiet or self._now) < PATIENCE for one in family.done)


def _wake(result: Slice, after: Look, now: float) -> float:
    """When there is something to do with a file though nothing is written to it."""
    if result.since:
        return result.since + PATIENCE
    written = after.mtime / 1e9
    return float("inf") if not result.held else now + IDLE if written > now else written + IDLE


def _behind(generation: Generation) -> int:
    at, look = generation.position, generation.after or generation.look
    if look is None:
        return 0
    return max(0, look.size - at.offset) if not at.packed else 0 if generation.end else look.size
