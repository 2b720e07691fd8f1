"""How far files were read: all that must be remembered between two runs, and its form in a checkpoint."""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

HEAD, TAIL = 1024, 256      # bytes at a file's beginning, and before the offset, by which it is known again
_DIGEST = 8

_VERSION = 1
_START = struct.Struct("<BI")                                       # version, CRC-32 of what follows
_FILE = struct.Struct(f"<QQQ{_DIGEST}sH{_DIGEST}sHdqdBH")           # a position without its path, and the length of the path
_INSIDE, _PACKED, _DONE, _COPY, _IDLE = 1, 2, 4, 8, 16


class Position(NamedTuple):
    """How far one generation of a file was read. A tuple, for a thousand of them are read and written every few seconds.

    A generation is what was written to one file until it was rotated, truncated or replaced.
    """

    path: str                   # what is followed; a rotated generation keeps the path that it was written under
    device: int = 0
    inode: int = 0              # 0: nobody knows where it is now
    offset: int = 0             # bytes taken; of an archive, of what it holds
    head: bytes = b""           # digest of the first `head_size` bytes
    head_size: int = 0
    tail: bytes = b""           # digest of the `tail_size` bytes before the offset
    tail_size: int = 0
    since: float = 0.0          # Unix s at which the unended line at the offset was first seen; 0: there is none
    inside: bool = False        # the offset is inside a line of which the beginning was taken
    seen: int = 0               # when it was last written to, as far as was seen: Unix ns
    quiet: float = 0.0          # Unix s since which it is no longer what stands at its path and has not grown; 0: it stands there
    packed: bool = False        # what is left of it is in a compressed archive
    done: bool = False          # read to its end, and only kept to be known again
    idle: bool = False          # all of it was taken, and nothing had been written for long: no loss if it is gone
    copy: bool = False          # a copy of a file that is followed itself: never read for its own sake

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode


@dataclass(frozen=True, slots=True)
class Positions:
    """Of all files that are followed; the generations of one path oldest first."""

    files: tuple[Position, ...] = ()
    scanned: tuple[str, ...] = ()       # patterns that were looked through: what else matches them has appeared later


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A checkpoint that nobody can go on from."""

    reason: str


def digest(data: bytes) -> bytes:
    """Eight bytes that tell contents apart."""
    return blake2b(data, digest_size=_DIGEST).digest()


def encode(positions: Positions) -> bytes:
    """The positions as a checkpoint: about 90 bytes and the path for each file."""
    parts = [struct.pack("<H", len(positions.scanned))]
    for pattern in positions.scanned:
        name = os.fsencode(pattern)
        parts += struct.pack("<H", len(name)), name
    for at in positions.files:
        name = os.fsencode(at.path)
        flags = _INSIDE * at.inside | _PACKED * at.packed | _DONE * at.done | _COPY * at.copy | _IDLE * at.idle
        parts += (_FILE.pack(at.device, at.inode, at.offset, at.head, at.head_size, at.tail, at.tail_size,
                             at.since, at.seen, at.quiet, flags, len(name)), name)
    body = b"".join(parts)
    return _START.pack(_VERSION, zlib.crc32(body)) + body


def decode(data: bytes) -> Positions | Unreadable:
    """What `encode` was given, or why the bytes are not from there."""
    if len(data) < _START.size:
        return Unreadable("the checkpoint is too short")
    version, checksum = _START.unpack_from(data)
    if version != _VERSION:
        return Unreadable(f"the checkpoint is of another version, {version}")
    body = memoryview(data)[_START.size :]
    if zlib.crc32(body) != checksum:
        return Unreadable("the checkpoint is damaged")
    try:
        patterns, at = _patterns(body)
        return Positions(tuple(_files(body, at)), patterns)
    except struct.error:
        return Unreadable("the checkpoint is cut off")


def _patterns(body: memoryview) -> tuple[tuple[str, ...], int]:
    (number,), at = struct.unpack_from("<H", body), 2
    patterns = []
    for _ in range(number):
        (length,) = struct.unpack_from("<H", body, at)
        patterns.append(os.fsdecode(bytes(body[at + 2 : at + 2 + length])))
        at += 2 + length
    return tuple(patterns), at


def _files(body: memoryview, at: int) -> Iterator[Position]:
    while at < len(body):
        device, inode, offset, head, head_size, tail, tail_size, since, seen, quiet, flags, length = _FILE.unpack_from(body, at)
        at += _FILE.size
        path = os.fsdecode(bytes(body[at : at + length]))
        at += length
        yield Position(path, device, inode, offset, head if head_size else b"", head_size, tail if tail_size else b"", tail_size, since,
                       bool(flags & _INSIDE), seen, quiet, bool(flags & _PACKED), bool(flags & _DONE), bool(flags & _IDLE),
                       bool(flags & _COPY))
