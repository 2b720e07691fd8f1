"""Where the generations of all paths are at the moment: what goes on, what has begun, what was rotated to where."""

import os
from collections.abc import Sequence

from probes.error_log.archives import is_packed
from probes.error_log.positions import HEAD, TAIL, Position, Positions
from probes.error_log.tail_families import Family, Generation, group, recognise
from probes.error_log.tail_find import ARCHIVE, words
from probes.error_log.tail_memory import Memory, folder_states
from probes.error_log.tail_names import origins
from probes.error_log.tail_siblings import COMPARED, Folder, Sibling, Siblings, copied
from probes.error_log.tail_slices import encoding
from probes.error_log.tail_source import ABSENT, IRREGULAR, Look, Marks, Source, look, marked, marks, open_source

_LONG = 60.0            # s without a write after which a file that is gone is not missed


class Places:
    """The families of all paths that are followed, each generation with the place where it can be read."""

    def __init__(self, memory: Memory, patterns: Sequence[str], *, end: bool, positions: Positions | None, now: float) -> None:
        self._memory, self._patterns, self._end, self._now = memory, patterns, end, now
        self._scanned = frozenset(positions.scanned if positions else ())
        self.problems: dict[str, str] = {}
        self._files = [one for one in positions.files if memory.ours(one.path, patterns)] if positions else []
        self.families: dict[str, Family] = {}
        self.scanned: tuple[str, ...] = ()
        self._looks: dict[str, Look | str] = {}
        self._owner: dict[tuple[int, int], Position] = {}
        self._folders: dict[str, Folder] = {}

    def find(self) -> None:
        """Look everywhere."""
        found = self._memory.scan(self._patterns, self._now)
        self.problems.update(found.problems)
        self.scanned = tuple(one for one in self._patterns if one in self._scanned or one in found.scanned)
        self.families = group(self._files)
        self._looks = {path: look(path) for path in dict.fromkeys([*found.paths, *self.families])}
        self._owner = recognise(self.families, self._looks, self._known)
        for family in list(self.families.values()):
            if family.generations:
                self._settle(family)
        self._folders.clear()                           # from now on they are older than what is read
        for path in found.paths:
            self._newcomer(path)

    def kept(self, family: Family) -> bool:
        """Whether a path is remembered though nothing is there: because it is followed by its own name."""
        return family.path in self._patterns

    def look(self, path: str) -> Look | str:
        """What stands at a path."""
        return self._looks.get(path, ABSENT)

    def source(self, generation: Generation) -> Source | None:
        """The open file of a generation; None when nobody knows where it is. OSError when it cannot be opened."""
        at = generation.position
        source = self._memory.descriptors.get(at.identity) if at.inode else None
        if source is None and generation.home and (source := open_source(generation.home, at.identity, packed=at.packed)):
            self._memory.descriptors.put(at.identity, source)
        return source

    def located(self, generation: Generation) -> bool:
        """Whether a generation can be read somewhere."""
        return bool(generation.home) or (generation.position.inode != 0 and generation.position.identity in self._memory.descriptors)

    def move(self, family: Family, generation: Generation) -> bool:
        """Follow a generation where its file is now, if that is another path that is followed."""
        at = generation.position
        path = next((path for path, one in self._looks.items()
                     if path != at.path and isinstance(one, Look) and at.inode and one.identity == at.identity), None)
        if path is None:
            return False
        family.generations.remove(generation)
        generation.position, generation.home = self._own(at._replace(path=path, quiet=0.0)), path
        self.families.setdefault(path, Family(path)).generations.append(generation)
        return True

    def lose(self, family: Family, generation: Generation) -> None:
        """The file of a generation holds something else by now. What is left of it may have been copied away before; then it goes on there."""
        stood = generation is family.newest and generation.home == family.path
        if not stood:
            self._memory.descriptors.drop(generation.position.identity)
        self._owner.pop(generation.position.identity, None)
        generation.position = generation.position._replace(device=0, inode=0, packed=False, quiet=generation.position.quiet or self._now)
        generation.home, generation.look, generation.limit, generation.reader = "", None, None, None
        family.fresh = True
        if stood and isinstance(found := look(family.path), Look):
            if self._is_copy(family.path, found):       # a rotated file that is followed too: its inode was given out again
                family.superseded, family.look = True, found
            else:
                self._succeed(family, found)
        self._folders.clear()
        self._search(family)

    def _known(self, at: Position, path: str, found: Look) -> bool:
        """Whether the file at a path is the one of this position; for sure only if its content says so."""
        if at.identity in self._memory.descriptors and not (at.done or at.copy):
            return True
        if not at.head_size:
            return False                                # it was empty: whatever is there now was not read
        if self._memory.unchanged(at, found, self._now):
            return True
        try:
            source = open_source(path, found.identity, packed=at.packed)
            if source is None:
                return True                             # it has moved on in this moment: ask again next time
            with_marks = not marks_differ(at, source)
            source.close()
        except OSError:
            return True                                 # nobody can tell; whoever reads it will say so
        if with_marks and at.copy:
            self._memory.remember(at, found, self._now)
        return with_marks

    def _settle(self, family: Family) -> None:
        """Find out where each generation of a path is, and whether another one has begun."""
        newest, found = family.newest, self._looks[family.path]
        if isinstance(found, str):
            family.absent = True
            if found != ABSENT:
                self.problems[family.path] = found
        else:
            family.look = found
            if found.identity == newest.position.identity:
                newest.home, newest.look = family.path, found
                if len(family.generations) == 1 and self._memory.unchanged(newest.position, found, self._now):
                    family.quiet = True
                    self._note_idle(newest, found)
                    return
                family.fresh = not newest.position.head_size and found.mtime != newest.position.seen    # there was nothing to know it again by
            elif found.identity in self._owner or self._is_copy(family.path, found):
                family.superseded = True
            elif found.inode == newest.position.inode and newest.position.head_size and self._known(newest.position, family.path, found):
                newest.position = newest.position._replace(device=found.device)     # mounted anew
                newest.home, newest.look = family.path, found
                self._owner[found.identity] = newest.position
            else:
                self._succeed(family, found)
        self._search(family)

    def _note_idle(self, generation: Generation, found: Look) -> None:
        at = generation.position
        if not at.idle and at.offset == found.size and self._now - found.mtime / 1e9 >= _LONG:
            generation.position = self._own(at._replace(idle=True))
            self._memory.remember(generation.position, found, self._now)

    def _succeed(self, family: Family, found: Look) -> None:
        """Another generation has begun at a path."""
        if at := self.start(family.path, Sibling(family.path, found)):
            family.generations.append(Generation(at, family.path, found))
            family.look, family.fresh = found, True

    def start(self, path: str, where: Sibling, *, end: bool = False) -> Position | None:
        """The position at the beginning, or the end, of a file that was not followed before; None when it cannot be read."""
        found = where.look
        try:
            source = open_source(where.path, found.identity, packed=where.packed)
            if source is None:
                return None
            if where.packed:
                first = source.read(0, HEAD)
                source.close()
            else:
                self._memory.descriptors.put(found.identity, source)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems[where.path] = words(error)
            return self._claim(Position(path, *found.identity, found.size, seen=found.mtime)) if end else None
        at = Position(path, *found.identity, seen=found.mtime, packed=where.packed)
        if where.packed:
            return self._claim(marked(at, Marks(first, b""), 0))
        return self._claim(_at_end(at, source, found.size) if end else marked(at, Marks(source.read(0, HEAD), b""), 0))

    def _claim(self, at: Position) -> Position:
        """From now on this position is in the file of its identity, and no other."""
        if old := self._owner.get(at.identity):
            self.families[old.path].forget(at.identity)
        return self._own(at)

    def _own(self, at: Position) -> Position:
        self._owner[at.identity] = at
        return at

    def _free(self, where: Sibling, *, copies: bool) -> bool:
        """Whether nobody follows a file, or only something that is not in it any more. A copy is followed by nobody, but known."""
        one = self._owner.get(where.look.identity)
        return one is None or (one.copy and copies) or not self._known(one, where.path, where.look)

    def _search(self, family: Family) -> None:
        """Look for what was rotated away, and for what was written and rotated since the last look."""
        lost = [one for one in family.generations if not self.located(one)]
        missing = frozenset(one.position.identity for one in lost)
        if self._worth_searching(family, missing):
            state = folder_states(family.path)
            siblings = Siblings(family.path, self.problems, self._folders)
            still_lost = [one for one in lost if not self._locate(family, siblings, one)]
            before = len(family.generations)
            if family.fresh or family.absent:
                self._insert_missed(family, siblings)
            if len(family.generations) == before:       # else this read may be repeated from the same positions
                self._memory.searched(family, frozenset(one.position.identity for one in still_lost), state, self._now)
            family.fresh = False
        newest = family.newest
        if len(family.generations) > 1 and newest.home == family.path and newest.look and newest.limit is None:
            newest.limit = newest.look.size

    def _worth_searching(self, family: Family, missing: frozenset[tuple[int, int]]) -> bool:
        return family.fresh or (bool(missing or family.absent) and not self._memory.in_vain(family, missing))

    def _locate(self, family: Family, siblings: Siblings, generation: Generation) -> bool:
        at = generation.position
        where = siblings.by_identity(at)
        if where and not at.head_size and siblings.copied(where, *self._contents(family)):
            where = None                                # the inode of a file that was empty, given out again
        if where is None:
            where = siblings.by_content(at, lambda one: self._free(one, copies=True))
        if where is None:
            generation.outrun = siblings.outrun(at)
            return False
        if where.look.identity != at.identity:
            self._owner.pop(at.identity, None)
            generation.position = self._claim(at._replace(device=where.look.device, inode=where.look.inode, packed=where.packed))
        generation.home, generation.look = where.path, where.look
        return True

    def _insert_missed(self, family: Family, siblings: Siblings) -> None:
        behind = len(family.generations) - (family.newest.home == family.path)
        known, firsts = self._contents(family)
        for where in siblings.missed(family.last_written(), known, firsts, lambda one: self._free(one, copies=False)):
            if at := self.start(family.path, where):
                family.generations.insert(behind, Generation(at, where.path, where.look))
                behind += 1

    def _contents(self, family: Family) -> tuple[list[Position], list[bytes]]:
        """By what copies are recognised: the beginnings of generations that are there, and the positions of others.

        What is compared now is remembered of each: what a copy was taken for must be known again when it is truncated.
        """
        known, firsts = list(family.done), []
        for one in family.generations:
            source, there = None, False
            try:
                if not one.position.packed and (source := self.source(one)):
                    found = marks(one.position, source)
                    there = found is not None
                    if found:
                        one.position = marked(one.position, found, one.position.offset)
                if source and (there or one.home == family.path):       # if truncated, what is there now will be followed
                    firsts.append(source.read(0, COMPARED))
            except OSError:
                pass
            if not there:
                known.append(one.position)
        return known, firsts

    def _newcomer(self, path: str) -> None:
        """Begin with a file that is not known."""
        found = self._looks[path]
        family = self.families.get(path)
        if isinstance(found, str):
            if path in self._patterns or found not in (ABSENT, IRREGULAR):      # a pattern may stand for folders too
                self.problems[path] = found
            return
        if found.identity in self._owner or (family and family.generations):
            return
        if is_packed(path):
            self.problems[path] = ARCHIVE
            return
        later = any(pattern in self._scanned and self._memory.ours_by(path, pattern) for pattern in self._patterns)
        if later and self._is_copy(path, found):
            return
        at = self.start(path, Sibling(path, found), end=self._end and not later)
        if at:
            family = self.families.setdefault(path, Family(path))
            family.generations.append(Generation(at, path, found))
            family.look, family.fresh = found, any(not one.copy for one in family.done)
            self._search(family)

    def _is_copy(self, path: str, found: Look) -> bool:
        """Whether a newcomer is a copy of a file that is followed: it is then known, but not read. Of an empty one nobody can tell yet."""
        folder, name = os.path.split(path)
        bases = [family for base in origins(name) if (family := self.families.get(os.path.join(folder, base))) and family.all()]  # noqa: PTH118
        if not bases:
            return False
        if not found.size:
            return True
        try:
            source = open_source(path, found.identity)
            if source is None:
                return True
            first = source.read(0, COMPARED)
            is_copy = any(copied(known, firsts, source, first, found.size) for known, firsts in map(self._contents, bases))
            source.close()
        except OSError as error:
            self.problems[path] = words(error)
            return True
        if is_copy:
            at = marked(Position(path, *found.identity, seen=found.mtime, copy=True), Marks(first[:HEAD], b""), 0)
            self.families.setdefault(path, Family(path)).add(self._claim(at))
        return is_copy


def marks_differ(at: Position, source: Source) -> bool:
    """Whether a file is another than this position's, as far as is known without decompressing much."""
    return source.reach(at.offset) and marks(at, source) is None


def _at_end(at: Position, source: Source, size: int) -> Position:
    """The position at the end of a file; an unended line there is one that began before."""
    first = source.read(0, HEAD)
    codec, _length = encoding(first)
    end = size & ~1 if codec else size
    last = source.read(max(end - TAIL, 0), min(end, TAIL))
    newline = "\n".encode(codec or "ascii")
    return marked(at, Marks(first, last), end)._replace(inside=bool(last) and not last.endswith(newline))
