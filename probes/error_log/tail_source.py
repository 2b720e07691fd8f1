"""Files as tail sees them: what stands at a path, what is in it, and the descriptors that are kept open."""

import os
import stat
from collections import OrderedDict
from typing import NamedTuple, Protocol

from probes.error_log.archives import Packed
from probes.error_log.positions import HEAD, Position, digest
from probes.error_log.tail_find import words

SLICE = 256 * 1024          # bytes read at once
ABSENT, IRREGULAR = "no such file", "not a regular file"
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY      # a pipe or a terminal must neither hold us nor own us
_BLOCKS = 64                # of nothing but NULs that are looked over at once
_MOST, _MOST_PACKED = 200, 4


class Look(NamedTuple):
    """What stands at a path, links followed."""

    device: int
    inode: int
    size: int
    mtime: int              # Unix ns
    links: int

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode


class Source(Protocol):
    """What can be read: a file, or an archive as if it were the file in it. All raise OSError."""

    packed: bool

    def fileno(self) -> int: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def reach(self, offset: int) -> bool: ...
    def data_from(self, offset: int) -> int: ...
    def close(self) -> None: ...


def look(path: str) -> Look | str:
    """The regular file at a path, or why there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a thousand of them in a few ms
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nowhere" if os.path.islink(path) else ABSENT  # noqa: PTH114
    except OSError as error:
        return words(error)
    return _look(found) if stat.S_ISREG(found.st_mode) else IRREGULAR


def look_into(source: Source) -> Look:
    """The same of what is open already."""
    return _look(os.fstat(source.fileno()))


def _look(found: os.stat_result) -> Look:
    return Look(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_nlink)


class Plain:
    """An open file."""

    packed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """These bytes; fewer only at the file's end."""
        return os.pread(self._fd, size, offset)

    def reach(self, _offset: int) -> bool:
        """Any place can be read at once."""
        return True

    def data_from(self, offset: int) -> int:
        """Where something other than NULs begins, at the offset or behind it; the offset itself when nothing does.

        A hole is left when a log is truncated under a writer that goes on at its old place.
        """
        place = offset
        for _ in range(_BLOCKS):
            try:
                place = os.lseek(self._fd, place, os.SEEK_DATA)
            except OSError:                     # a hole up to the end
                return offset
            block = os.pread(self._fd, SLICE, place)
            if not block:
                return offset
            if data := block.lstrip(b"\0"):
                return place + len(block) - len(data)
            place += len(block)
        return place


def open_source(path: str, identity: tuple[int, int], *, packed: bool = False) -> Source | None:
    """The file of this identity at this path, opened; None when another one stands there by now. OSError when it cannot be read."""
    fd = os.open(path, _FLAGS)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != identity:
            os.close(fd)
            return None
        return Packed(fd) if packed else Plain(fd)
    except OSError:
        os.close(fd)
        raise


class Marks(NamedTuple):
    """The bytes of a file by which a position in it is known again."""

    first: bytes            # at its beginning, at most 1,024
    last: bytes             # before the offset, at most 256


def marks(at: Position, source: Source) -> Marks | None:
    """The marks of a position in this file; None when it is not the one that was read up to there."""
    first = source.read(0, HEAD)
    if at.head_size and (len(first) < at.head_size or digest(first[: at.head_size]) != at.head):
        return None
    last = source.read(at.offset - at.tail_size, at.tail_size) if at.tail_size else b""
    if len(last) < at.tail_size or (last and digest(last) != at.tail):
        return None
    return None if at.offset and not last and at.offset > look_into(source).size else Marks(first, last)


def marked(at: Position, found: Marks, offset: int) -> Position:
    """The position at an offset, with the marks that were found for it. NULs may be room for what is not yet written."""
    first = found.first.rstrip(b"\0") or found.first
    if len(first) > at.head_size:
        at = at._replace(head=digest(first), head_size=len(first))
    if offset != at.offset or len(found.last) > at.tail_size:
        at = at._replace(offset=offset, tail=digest(found.last) if found.last else b"", tail_size=len(found.last))
    return at


class Descriptors:
    """Files kept open, so that what is renamed or deleted can be read to its end. The ones used longest ago are closed first."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._open: OrderedDict[tuple[int, int], Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, identity: tuple[int, int]) -> bool:
        return identity in self._open

    def get(self, identity: tuple[int, int]) -> Source | None:
        """The open file of this identity. It may be closed by the next `put`."""
        if source := self._open.get(identity):
            self._open.move_to_end(identity)
        return source

    def put(self, identity: tuple[int, int], source: Source) -> None:
        """Keep this one open."""
        self.drop(identity)
        self._open[identity] = source
        if source.packed:
            packed = [one for one, other in self._open.items() if other.packed]
            for one in packed[:-_MOST_PACKED]:
                self.drop(one)
        while len(self._open) > self._most:
            self.drop(next(iter(self._open)))

    def drop(self, identity: tuple[int, int]) -> None:
        """Close this one."""
        if source := self._open.pop(identity, None):
            source.close()

    def close(self) -> None:
        """Close all."""
        for identity in list(self._open):
            self.drop(identity)

