"""Evidence in files: one folder of the daemon's own, names that nobody can choose, bounded in size and age, no link ever followed."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

NAME = re.compile(r"[0-9a-f]{32}\.(?:png|zip|json|txt)")
_MENTIONED = re.compile(rf"\b([a-z]{{1,16}}) artifacts/({NAME.pattern})(?![\w.])")
_TAIL = re.compile(r" ?\[(?:[a-z]{1,16} artifacts/[0-9a-f]{32}\.[a-z]{3,4}(?:, )?){1,10}\]$")
MIN_FREE = 1 << 30         # bytes of the disk that are left for the database and for everybody else
MOST = 32 << 20            # bytes of one file
_UNFINISHED = 3600.0       # s after which a file that was never finished is taken away
_MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "zip": b"PK\x03\x04"}
_LONG_NUMBER = re.compile(r"[0-9]{13}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ArtifactError(Exception):
    """It is not kept; the words say why."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    size: int
    at: float                        # of its last change, Unix s


class Artifacts:
    """A folder with at most `most` bytes of evidence. Everything here blocks: call it in a thread, of any number at once.

    The folder itself may be a mount, but no symbolic link. What lies in it under another name is left alone.
    """

    def __init__(self, folder: Path, most: int, statvfs: Callable[[int], os.statvfs_result] = os.fstatvfs) -> None:
        self.folder, self.most, self._statvfs, self._lock = folder, most, statvfs, Lock()

    def put(self, data: bytes, ext: str) -> str:
        """Keep it, and give its name; the oldest files make room. Raises ArtifactError."""
        name = _name(ext)
        if not data.startswith(_MAGIC.get(ext, b"")):
            raise ArtifactError(f"this is no {ext}")
        try:
            with self._lock, self._opened(make=True) as folder:
                self._make_room(folder, len(data))
                _write(folder, name, data)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: {error.strerror or error}") from None
        return name

    def sweep(self, now: float, age: float) -> int:
        """Take away what is older than `age` s at `now` (Unix s), what is too much, and what was never finished. How many files that were."""
        gone = 0
        with contextlib.suppress(OSError), self._lock, self._opened() as folder:
            files = _files(folder)
            total = sum(file.size for file in files)
            for file in files:
                if (now - file.at > age or total > self.most) and _unlink(folder, file.name):
                    gone += 1
                    total -= file.size
            for file in _files(folder, unfinished=True):
                if now - file.at > _UNFINISHED:
                    gone += _unlink(folder, file.name)
        return gone

    def open(self, name: str) -> BinaryIO:
        """The file of that name. Raises FileNotFoundError for everything that is no evidence of ours."""
        if not NAME.fullmatch(name):
            raise FileNotFoundError(name)
        try:
            with self._opened() as folder:
                file = os.fdopen(os.open(name, _READ, dir_fd=folder), "rb")
        except OSError:
            raise FileNotFoundError(name) from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise FileNotFoundError(name)
        return file

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder. Raises OSError, also where it is a link."""
        if make:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.folder, _FOLDER)
        try:
            yield folder
        finally:
            os.close(folder)

    def _make_room(self, folder: int, size: int) -> None:
        if size > min(MOST, self.most):
            raise ArtifactError(f"{size} bytes are too much for one piece of evidence")
        disk = self._statvfs(folder)
        if disk.f_bavail * disk.f_frsize - size < MIN_FREE:
            raise ArtifactError("less than 1 GiB of the disk is free")
        files = _files(folder)
        total = sum(file.size for file in files)
        for file in files:
            if total + size <= self.most:
                break
            total -= file.size if _unlink(folder, file.name) else 0
        if total + size > self.most:
            raise ArtifactError("the folder is full, and nothing in it can be taken away")


def mentioned(text: str) -> list[tuple[str, str]]:
    """What a text says of evidence, " [screenshot artifacts/NAME.png, …]": each with what it is and its name."""
    return _MENTIONED.findall(text)


def linked(text: str, link: Callable[[str, str], str]) -> str:
    """The text with `link(what, name)` in the place of each piece of evidence that it names."""
    return _MENTIONED.sub(lambda found: link(found[1], found[2]), text)


def without(text: str) -> str:
    """The text without the list of evidence at its end."""
    return _TAIL.sub("", text)


def _name(ext: str) -> str:
    """A name that cannot be guessed. One with a long number in it could look like a card's to whatever hides those."""
    if not NAME.fullmatch(f"{'0' * 32}.{ext}"):
        raise ArtifactError(f"evidence of the kind {ext[:20]!r} is not kept")
    while _LONG_NUMBER.search(name := secrets.token_hex(16)):
        continue
    return f"{name}.{ext}"


def _write(folder: int, name: str, data: bytes) -> None:
    """It has its name only when all of it is on the disk."""
    unfinished = f".{name}"
    with os.fdopen(os.open(unfinished, _NEW, 0o600, dir_fd=folder), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _unlink(folder, unfinished)
            raise


def _files(folder: int, *, unfinished: bool = False) -> list[_File]:
    """Our files, the oldest first."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name[1:] if unfinished and entry.name.startswith(".") else "" if unfinished else entry.name):
                with contextlib.suppress(FileNotFoundError):
                    is_ = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(is_.st_mode):
                        found.append(_File(entry.name, is_.st_size, is_.st_mtime))
    return sorted(found, key=lambda file: (file.at, file.name))


def _unlink(folder: int, name: str) -> bool:
    """Take the name away, and never what a link leads to."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
