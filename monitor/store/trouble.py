"""What can be wrong with the disk below the store, in words for people; and what is a caller's own fault instead."""

import errno
import os
import sqlite3
from pathlib import Path

FULL = "the disk is full"
NO_INODES = "the file system has no inodes left"
READ_ONLY = "the file system is read-only"
BROKEN = "input/output error"
LOCKED = "another program holds the database locked"
UNOPENED = "the database file cannot be opened for writing"
DAMAGED = "the database file is damaged"

_SQLITE = {
    sqlite3.SQLITE_FULL: FULL, sqlite3.SQLITE_READONLY: UNOPENED, sqlite3.SQLITE_IOERR: BROKEN, sqlite3.SQLITE_PERM: UNOPENED,
    sqlite3.SQLITE_CANTOPEN: UNOPENED, sqlite3.SQLITE_BUSY: LOCKED, sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_CORRUPT: DAMAGED, sqlite3.SQLITE_NOTADB: DAMAGED,
}
_ERRNO = {
    errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EFBIG: FULL, errno.EROFS: READ_ONLY, errno.EIO: BROKEN,
    errno.EMFILE: UNOPENED, errno.ENFILE: UNOPENED,
}


class StoreError(Exception):
    """The store could not do it; nothing of it was written."""


class DiskError(StoreError):
    """It was the disk's fault: the same may go through on the spare, or later."""


def words(error: BaseException, folder: Path) -> str:
    """What the error says about the disk that holds `folder`; "" when it is no fault of the disk."""
    if isinstance(error, sqlite3.Error):
        said = _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")     # the low byte: without SQLite's finer division
    else:
        said = _ERRNO.get(error.errno or 0, "") if isinstance(error, OSError) else ""
    return _asked(folder) or said if said in (BROKEN, UNOPENED) else said


def _asked(folder: Path) -> str:
    """What the file system itself says: SQLite calls a -shm that finds no space, or files after a forced remount, I/O errors."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return ""
    if state.f_flag & os.ST_RDONLY:
        return READ_ONLY
    if state.f_blocks and not state.f_bavail:
        return FULL
    return NO_INODES if state.f_files and not state.f_favail else ""
