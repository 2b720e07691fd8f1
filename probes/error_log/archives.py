"""Reading rotated logs that were compressed: .gz, .xz, .bz2 and .zst, from any offset on, in bounded memory."""

import bz2
import importlib
import io
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from probes.error_log.positions import TAIL

_ENDINGS = (".gz", ".xz", ".bz2", ".zst")
_OTHERS = (".Z", ".lz4", ".lzma", ".lzo", ".zip", ".7z", ".br")     # never taken for text, but not read either
_INPUT, _OUTPUT = 64 * 1024, 256 * 1024     # bytes read and decompressed at once
_STRIDE = 32 << 20                          # bytes that one call of `reach` skips
_FIRST = 16 * 1024                          # bytes at the beginning that are kept
_MEMORY = 128 << 20                         # bytes that a decompressor may need: xz -9 takes 65 MiB
_WINDOW = 27                                # log2 of the same for zstd


class ArchiveError(OSError):
    """An archive cannot be read; says why."""


class _Decompressor(Protocol):
    """What those of the standard library have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        found = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(found) < max_length
        return found


class _Zstd:
    """The decompressor of whichever module has one: Python's since 3.14, or its backport."""

    def __init__(self) -> None:
        self._module = _zstd_module()
        self._inner = self._module.ZstdDecompressor(options={self._module.DecompressionParameter.window_log_max: _WINDOW})

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.needs_input)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return bytes(self._inner.decompress(data, max_length))
        except self._module.ZstdError as error:
            raise ArchiveError(f"damaged archive: {error}") from error


def _zstd_module() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ArchiveError("compressed with zstd, which this Python cannot read")


_KINDS: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (       # how archives begin
    (b"\x1f\x8b", _Gzip),
    (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\x28\xb5\x2f\xfd", _Zstd),
)


def is_packed(name: str) -> bool:
    """Whether a file of this name is an archive, and not to be followed."""
    return name.endswith(_ENDINGS + _OTHERS)


def unpacked(name: str) -> str:
    """The name without the ending that compressing gave it."""
    return os.path.splitext(name)[0] if is_packed(name) else name    # noqa: PTH122 - names of a listing, not paths


class Packed:
    """An archive as if it were the file that it holds. Reading goes forward; going back begins anew.

    An archive that ends too early ends there. Errors are `ArchiveError`.
    """

    packed = True

    def __init__(self, fd: int) -> None:
        self._fd, self._first = fd, b""
        self._make = _kind(os.pread(fd, 6, 0))
        self._restart()
        self._first = self.read(0, _FIRST)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def reach(self, offset: int) -> bool:
        """Decompress so far that what is at the offset can be read, or for some time only: then call again."""
        if offset < self._start:
            self._restart()
        goal = min(offset, self._start + len(self._buffer) + _STRIDE)
        while self._start + len(self._buffer) < goal and self._fill(offset):
            pass
        return self._ended or self._start + len(self._buffer) >= offset

    def read(self, offset: int, size: int) -> bytes:
        """These bytes of what the archive holds; fewer only at its end."""
        if offset + size <= len(self._first):
            return self._first[offset : offset + size]
        if offset < self._start:
            self._restart()
        while self._start + len(self._buffer) < offset + size and self._fill(offset):
            pass
        at = offset - self._start
        return bytes(self._buffer[at : at + size])

    def data_from(self, offset: int) -> int:
        """Holes come from truncation and are not looked for in archives."""
        return offset

    def _restart(self) -> None:
        self._decompressor = self._make()
        self._buffer, self._start, self._read_to = bytearray(), 0, 0
        self._ended = self._whole = False

    def _fill(self, offset: int) -> bool:
        """Decompress some more, forgetting what lies well before the offset. False at the end."""
        try:
            found = self._decompress()
        except (zlib.error, lzma.LZMAError, OSError) as error:      # OSError: bzip2's, and the archive's own file
            if not self._whole:
                raise error if isinstance(error, ArchiveError) else ArchiveError(f"damaged archive: {error}") from error
            found = b""                                     # behind an archive's end may be padding
        self._buffer += found
        before = min(offset - TAIL - self._start, len(self._buffer))
        if before >= _OUTPUT:
            del self._buffer[:before]
            self._start += before
        self._ended = not found
        return bool(found)

    def _decompress(self) -> bytes:
        while True:
            data = b""
            if self._decompressor.eof:                      # archives may be strung together
                data, self._decompressor = self._decompressor.unused_data, self._make()
                self._whole = True
            if not data and self._decompressor.needs_input:
                data = os.pread(self._fd, _INPUT, self._read_to)
                self._read_to += len(data)
                if not data:
                    return b""
            if found := self._decompressor.decompress(data, _OUTPUT):
                self._whole = False
                return found


class _Stream(io.RawIOBase):
    """An archive as a stream of what it holds."""

    def __init__(self, packed: Packed) -> None:
        self._packed, self._at = packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._packed.read(self._at, len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._packed.close()
        super().close()


def open_plain(path: Path) -> BinaryIO:
    """What is in a file, decompressed if it is an archive (by its beginning, whatever it is called). Raises OSError, of which ArchiveError is one."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if not os.pread(fd, 6, 0).startswith(tuple(magic for magic, _make in _KINDS)):
        return os.fdopen(fd, "rb")
    try:
        packed = Packed(fd)
    except OSError:
        os.close(fd)
        raise
    return io.BufferedReader(_Stream(packed))


def _kind(beginning: bytes) -> Callable[[], _Decompressor]:
    for magic, make in _KINDS:
        if beginning.startswith(magic):
            return make
    raise ArchiveError("not an archive of a kind that can be read: gzip, xz, bzip2 and zstd can")
