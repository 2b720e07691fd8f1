"""Finding what a followed path was rotated to: by identity, else by content, also inside archives."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from probes.error_log.archives import is_packed
from probes.error_log.positions import Position
from probes.error_log.tail_find import words
from probes.error_log.tail_names import age, origins, superfluous
from probes.error_log.tail_source import Look, Source, look, marks, open_source

_MOST = 64                      # rotated files of one path that are looked into, the newest
COMPARED = 64 * 1024            # bytes at the beginnings of a file and its copy that are the same
_TELLING = 64                   # bytes of a beginning that tell two generations apart though both are there
_BLUNT = 2_000_000_000          # ns by which an archive may seem older than what was packed


class Sibling(NamedTuple):
    """A file beside the one that is followed."""

    path: str
    look: Look

    @property
    def packed(self) -> bool:
        """Whether it is an archive."""
        return is_packed(self.path)


class Folder:
    """The entries of a folder, by inode and by what they could have been called before they were rotated."""

    def __init__(self, path: str, problems: dict[str, str]) -> None:
        self.names: set[str] = set()
        self.by_inode: dict[int, list[str]] = {}
        self.by_origin: dict[str, list[tuple[str, str]]] = {}       # → name, path
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._add(entry)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            problems[path] = words(error)

    def _add(self, entry: os.DirEntry[str]) -> None:
        self.names.add(entry.name)
        self.by_inode.setdefault(entry.inode(), []).append(entry.path)
        for origin in origins(entry.name):
            self.by_origin.setdefault(origin, []).append((entry.name, entry.path))


class Siblings:
    """What is in the folder of a followed path, and in that of the file to which it links.

    `problems` gets what nobody could look into: path → why. `known` are folders that were listed a moment ago.
    """

    def __init__(self, path: str, problems: dict[str, str], known: dict[str, Folder]) -> None:
        self.problems = problems
        self._path, name = path, os.path.basename(path)  # noqa: PTH119 - a string is all it is
        self._names = (name, *origins(name))                # what it is called, and what it could have been called
        self._folders: list[Folder] = []
        for folder in folders(path):
            if folder not in known:
                known[folder] = Folder(folder, problems)
            self._folders.append(known[folder])

    def by_identity(self, at: Position) -> Sibling | None:
        """Where the file of this position is now, if it is still itself."""
        if not at.inode:
            return None
        paths = [path for folder in self._folders for path in folder.by_inode.get(at.inode, ())]
        for path in paths if at.head_size else self._named(paths):      # only its name tells of a file that was empty
            if is_packed(path) == at.packed and isinstance(found := look(path), Look) and found.identity == at.identity:
                sibling = Sibling(path, found)
                if self._holds(sibling, at, packed=at.packed):
                    return sibling
        return None

    def _named(self, paths: list[str]) -> list[str]:
        rotated = {path for folder in self._folders for _name, path in folder.by_origin.get(self._names[0], ())}
        return [path for path in paths if path in rotated]

    def by_content(self, at: Position, free: Callable[[Sibling], bool]) -> Sibling | None:
        """A copy, or an archive, of the file that this position is in; of several the longest. Only of those that are `free`."""
        if not at.head_size:
            return None
        found = [one for one in self.rotated(at.seen - _BLUNT, further=True) if one.packed or one.look.size >= at.offset]
        found = [one for one in found if self._holds(one, at, packed=one.packed) and free(one)]
        return max(found, key=lambda one: (not one.packed, one.look.size), default=None)

    def outrun(self, at: Position) -> bool:
        """Whether there is a copy of which everything was read, and more, before it was made."""
        start = at._replace(offset=0, tail_size=0)
        shorter = [one for one in self.rotated(at.seen - _BLUNT) if not one.packed and at.head_size <= one.look.size < at.offset]
        return bool(at.head_size) and any(self._holds(one, start, packed=False) for one in shorter)

    def missed(self, after: int, known: Sequence[Position], firsts: Sequence[bytes], free: Callable[[Sibling], bool]) -> list[Sibling]:
        """Generations that began and were rotated since the last look, the oldest first. For `known` and `firsts` see `copied`."""
        def telling(one: Sibling) -> list[Position]:
            return [at for at in known if at.head_size >= _TELLING or at.identity in ((0, 0), one.look.identity)]
        return [one for one in self.rotated(after + 1) if free(one) and not self.copied(one, telling(one), firsts)]

    def rotated(self, since: int, *, further: bool = False) -> list[Sibling]:
        """Files that are called as a rotated one would be, and were written to since then (Unix ns); the oldest first.

        What was rotated once and is followed under that name too is looked for `further`: "app.log.1" becomes "app.log.2", not "app.log.1.1".
        """
        named = {path: name for folder in self._folders for base in (self._names if further else self._names[:1])
                 for name, path in folder.by_origin.get(base, ()) if path != self._path and not superfluous(name, folder.names)}
        looks = [(name, Sibling(path, found)) for path, name in named.items() if isinstance(found := look(path), Look) and found.mtime >= since]
        looks.sort(key=lambda one: age(one[0], one[1].look.mtime))
        return [sibling for _name, sibling in looks[-_MOST:]]

    def _holds(self, one: Sibling, at: Position, *, packed: bool) -> bool:
        """Whether what stands before a position is in this file."""
        source = self._open(one, packed=packed)
        if source is None:
            return False
        try:
            return not source.reach(at.offset) or marks(at, source) is not None
        except OSError as error:
            self.problems[one.path] = words(error)
            return False
        finally:
            source.close()

    def copied(self, one: Sibling, known: Sequence[Position], firsts: Sequence[bytes]) -> bool:
        """Whether a file is a copy of what is known, see the function of this name."""
        source = self._open(one, packed=one.packed)
        if source is None:
            return False
        try:
            first = source.read(0, COMPARED)
            return copied(known, [] if len(first) < _TELLING else firsts, source, first, None if one.packed else one.look.size)
        except OSError as error:
            self.problems[one.path] = words(error)
            return False
        finally:
            source.close()

    def _open(self, one: Sibling, *, packed: bool) -> Source | None:
        try:
            return open_source(one.path, one.look.identity, packed=packed)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems[one.path] = words(error)
            return None


def folders(path: str) -> list[str]:
    """Where files rotated away from a path can be."""
    return list(dict.fromkeys([os.path.dirname(path) or ".", os.path.dirname(os.path.realpath(path))]))  # noqa: PTH120


def copied(known: Sequence[Position], firsts: Sequence[bytes], source: Source, first: bytes, size: int | None) -> bool:
    """Whether a file is a copy, maybe an older and shorter one, of what is known.

    `firsts` are the beginnings of known files that are there, `known` positions in others; `first` is the file's beginning, `size` its size.
    """
    return any(other.startswith(first) for other in firsts) or any(_holds(at, source, size) for at in known)


def _holds(at: Position, source: Source, size: int | None) -> bool:
    if not at.head_size or (size is not None and size < at.head_size):
        return False
    if size is not None and size < at.offset:
        at = at._replace(offset=0, tail_size=0)
    return not source.reach(at.offset) or marks(at, source) is not None
