"""This machine: where state is kept, the database, the clock, limits. Everything here reads, and nothing is changed."""

import ctypes
import ctypes.util
import fcntl
import os
import resource
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from monitor.clock import span
from monitor.config import Config
from monitor.doctor.finding import Finding
from monitor.store.schema import NewerSchemaError, check
from monitor.web.auth import SHORTEST, kept_token
from monitor.web.door import MOST_CONNECTIONS

NETWORK_FILES = ("nfs", "cifs", "smb", "9p", "ceph", "afs", "lustre", "ocfs2", "gfs2", "gluster", "fuse.gluster", "fuse.sshfs", "fuse.rclone")
FLEETING = {"tmpfs": "memory, and gone after a reboot", "ramfs": "memory, and gone after a reboot",
            "overlay": "the container's own layer, and gone with the container"}
LEAST_FREE, LOW_FREE = 100e6, 1e9        # bytes
QUICK_CHECK_SECONDS = 5.0
SPARE_FILES = 128                        # descriptors beside those of the probes and of the web server's visitors
BUILT = 1_735_689_600.0                  # 2025-01-01: no clock that is right shows less
_UNSYNCHRONISED = 0x40                   # STA_UNSYNC of <sys/timex.h>


def state_directory(config: Config) -> Iterator[Finding]:
    """Can state be kept, by this user and by nobody else?"""
    name, path = "state directory", config.daemon.state_dir
    where = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    kind = file_system(where, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if kind.startswith(NETWORK_FILES):
        yield Finding(name, "fault", f"{path} is on a network file system ({kind}), where SQLite's log cannot work", "name a folder on a local disk")
        return
    if where != path.absolute() and os.access(where, os.W_OK | os.X_OK):
        yield Finding(name, "ok", f"{path} will be made at the first start")
    elif not where.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(name, "fault", f"{path} cannot be written by this user", "run doctor as the daemon's user; if it is, chown the folder to it")
    elif path.stat().st_mode & 0o077:
        yield Finding(name, "warning", f"{path} can be entered by other users", f"chmod 700 {path}")
    else:
        yield Finding(name, "ok", f"{path} can be written, and by nobody else")
    yield from _room(where, kind)


def _room(where: Path, kind: str) -> Iterator[Finding]:
    name, free = "disk", shutil.disk_usage(where).free
    text = f"{free / 1e9:.1f} GB are free under {where}"
    mend = "make room, or shorten [daemon] retention (docs/operating.md has the sizes)"
    if free < LOW_FREE:
        yield Finding(name, "fault" if free < LEAST_FREE else "warning", text, mend)
    elif kind in FLEETING:
        yield Finding(name, "warning", f"state is kept in {FLEETING[kind]} ({kind})", "name a folder on a disk or a volume")
    else:
        yield Finding(name, "ok", f"{text} ({kind})")


def file_system(path: Path, mountinfo: str) -> str:
    """The kind of file system under a path, by the text of /proc/self/mountinfo (proc(5)): of the longest mount point that holds it."""
    best, kind = "", "unknown"
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].replace("\\040", " ")
        if (point == "/" or f"{path}/".startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, rest.split(" ")[0]
    return kind


def database(config: Config) -> Iterator[Finding]:
    """Is it ours, and sound as far as a quick look tells? Opened so that it cannot be written."""
    name, path = "database", config.daemon.state_dir / "tillwatch.sqlite3"
    if not path.exists():
        yield Finding(name, "ok", "there is none yet: it is made at the first start")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2.0)) as connection:
            connection.execute("PRAGMA query_only = 1")
            schema = check(connection)
            sound = _sound(connection)
    except NewerSchemaError as error:
        yield Finding(name, "fault", str(error), "install the newer version of Tillwatch again, or restore a backup")
    except sqlite3.Error as error:
        yield Finding(name, "fault", f"{path} cannot be read: {error}", "stop the daemon and restore a backup (docs/operating.md)")
    else:
        if sound in {"ok", ""}:
            yield Finding(name, "ok", f"schema {schema}, " + ("sound" if sound else f"too large to look through in {QUICK_CHECK_SECONDS:.0f} s"))
        else:
            yield Finding(name, "fault", f"{path} is damaged: {sound[:200]}", "stop the daemon and restore a backup (docs/operating.md)")


def _sound(connection: sqlite3.Connection) -> str:
    """"ok", what is wrong, or "" when there was no time to find out."""
    end = time.monotonic() + QUICK_CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        if time.monotonic() > end:
            return ""
        raise


def sqlite_version(_config: Config) -> Iterator[Finding]:
    """Below these versions two connections that checkpoint at one instant can lose commits (sqlite.org/wal.html, the WAL-reset bug)."""
    found, text = sqlite3.sqlite_version_info, sqlite3.sqlite_version
    if found >= (3, 51, 3) or (3, 50, 7) <= found < (3, 51) or (3, 44, 6) <= found < (3, 45):
        yield Finding("SQLite", "ok", f"version {text}")
    else:
        yield Finding("SQLite", "warning", f"version {text} can lose commits when two programs write at one instant; Tillwatch alone never does",
                      "let nothing else write to the database; upgrade the system's SQLite to 3.51.3, 3.50.7 or 3.44.6")


def is_locked(config: Config) -> bool:
    """Does a daemon hold the state directory?"""
    try:
        with (config.daemon.state_dir / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def token(config: Config) -> Iterator[Finding]:
    """The command line's own token may do everything."""
    name, path = "token of this host", config.daemon.state_dir / "token"
    try:
        mode = path.stat().st_mode
    except OSError:
        yield Finding(name, "ok", "there is none yet: it is made at the first start")
        return
    if os.access(path, os.R_OK) and not kept_token(path):
        yield Finding(name, "fault", f"{path} holds no token: {SHORTEST} plain characters at least", f"delete {path} and restart the daemon")
    elif mode & 0o077:
        yield Finding(name, "fault", f"others can read {path}, and can then do everything", f"delete {path} and restart the daemon")
    else:
        yield Finding(name, "ok", f"{path} is for this user alone")


def clock(_config: Config) -> Iterator[Finding]:
    """Incidents, certificates and signatures need the time of day."""
    now = time.time()
    if now < BUILT:
        yield Finding("clock", "fault", f"it shows {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set the clock, and keep it right with NTP")
    elif (synchronised := _synchronised()) is None:
        yield Finding("clock", "warning", "whether it is kept right cannot be seen here", "make sure that the host runs NTP")
    elif not synchronised:
        yield Finding("clock", "warning", "the kernel says that it is not synchronised", "run chrony, ntpd or systemd-timesyncd")
    else:
        yield Finding("clock", "ok", "it is kept right")


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as `status`; the rest is room."""

    _fields_ = (("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
                ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256))


def _synchronised() -> bool | None:
    told = _Timex()
    try:
        state = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else not told.status & _UNSYNCHRONISED


def limits(config: Config) -> Iterator[Finding]:
    """Descriptors, the event loop, processors."""
    most = config.daemon.max_concurrency
    wanted, soft = most.http + most.other + MOST_CONNECTIONS + SPARE_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft < wanted:
        yield Finding("open files", "warning", f"{soft} may be open at once, {wanted} may be needed", "raise LimitNOFILE= of the unit, or ulimit -n")
    else:
        yield Finding("open files", "ok", f"{soft} may be open at once, {wanted} may be needed")
    if find_spec("uvloop"):
        yield Finding("event loop", "ok", "uvloop")
    else:
        yield Finding("event loop", "warning", "uvloop is not installed: probes cost more CPU", "pip install uvloop")
    processors = len(os.sched_getaffinity(0))
    runs = sum(1 / probe.interval for probe in config.probe)
    words = f"{processors} for {runs:.3g} runs a second"
    if processors < 2:
        yield Finding("processors", "warning", words + ": reports and baselines take time from the probes", "give it a second one")
    else:
        yield Finding("processors", "ok", words)


def pace(config: Config) -> Iterator[Finding]:
    """How long it takes until somebody is told, in the worst case: a probe that hangs."""
    paging = [probe for probe in config.probe if probe.urgency == "page"]
    if not paging:
        return
    seconds, slowest = max((worst(p.interval, p.timeout, p.recheck, p.failures, p.confirm), p.name) for p in paging)
    text = f"a page leaves at the latest {span(seconds)} after the shop stops answering (slowest: {slowest})"
    if seconds > 600:
        yield Finding("time to a page", "warning", text, "shorten its interval, timeout, recheck or confirm")
    else:
        yield Finding("time to a page", "ok", text)


def worst(interval: float, timeout: float, recheck: float, failures: int, confirm: float) -> float:
    """Seconds from the beginning of an outage to its opening, when every run takes its whole time-out."""
    return interval + timeout + max(confirm, (failures - 1) * (recheck + timeout))


def writable_configuration(config: Config) -> Iterator[Finding]:
    """Whoever can write it decides what is run and who is told."""
    if config.path.stat().st_mode & stat.S_IWOTH:
        yield Finding("configuration", "fault", f"everybody on this host can change {config.path}", f"chmod o-w {config.path}")
