"""Processes that a browser consists of: found, measured and ended for certain, whatever state they are in.

Chromium is started in a session of its own, and what loses its parent is given to another one. So what belongs to a worker is all that is below
it, all in a session of one of those, and all that was started with its marker, an assignment such as TMPDIR=/tmp/x, in the environment.
"""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NICE, OOM_SCORE = 10, 500                      # the shop goes first, and the browser goes first when memory is short
LARGEST_FILE = 1_000_000_000                   # bytes of any file that the browser writes
_PAGE = os.sysconf("SC_PAGESIZE")
_ENVIRONMENT = 128 * 1024                      # bytes of one that are looked at
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 24, 36
_CAP_SYS_NICE = 23
_DEAD = "ZXx"
_STOPPED = "Tt"
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """One of /proc. A pid is used again, a pid with its start (in clock ticks since boot) is not."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int


Processes = Mapping[int, Process]


def look(pid: int) -> Process | None:
    """This process, None when there is none, or none that we may see."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    told = text[text.rfind(")") + 2:].split()              # a program's name may hold anything, brackets too
    return Process(pid, int(told[1]), int(told[2]), int(told[3]), told[0], int(told[19]))


def everything() -> dict[int, Process]:
    """All processes that we may see: about 15 µs each."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - a third of the time
    return {process.pid: process for process in found if process}


def below(root: int, among: Processes) -> set[int]:
    """The root and all its descendants."""
    return _closure([root], _by(among, "parent"))


def _by(among: Processes, name: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for process in among.values():
        found.setdefault(getattr(process, name), []).append(process.pid)
    return found


def _closure(start: Iterable[int], *ways: Mapping[int, list[int]]) -> set[int]:
    found, new = set(), [*start]
    while new:
        pid = new.pop()
        if pid not in found:
            found.add(pid)
            for way in ways:
                new += way.get(pid, ())
    return found


def marked(marker: str, among: Iterable[int]) -> set[int]:
    """Those that were started with this assignment in their environment, as far as we may see that."""
    wanted, found = b"\0" + marker.encode() + b"\0", set()
    for pid in among:
        with suppress(OSError), Path(f"/proc/{pid}/environ").open("rb") as environment:
            if wanted in b"\0" + environment.read(_ENVIRONMENT) + b"\0":
                found.add(pid)
    return found


def family(root: Process, marker: str, sessions: set[int]) -> dict[int, Process]:
    """All that belongs to `root`, which may have ended meanwhile; dead ones that nobody has reaped yet are not counted.

    `sessions` are those known to be its own; those that are found are added.
    """
    among, own = everything(), os.getsid(0)
    children, together = _by(among, "parent"), _by(among, "session")
    alive = among.get(root.pid)
    found = marked(marker, among) | ({root.pid} if alive and alive.started == root.started else set())
    known = 0
    while len(found) > known:
        known = len(found)
        sessions |= {among[pid].session for pid in found} - {0, own}
        found |= {pid for session in sessions for pid in together.get(session, ())}
        found = _closure(found, children) - {os.getpid(), os.getppid(), 1} | ({root.pid} & found)
    return {pid: among[pid] for pid in found if among[pid].state not in _DEAD and pid != os.getpid()}


def end(root: Process, marker: str, seconds: float, grace: float = 0.3) -> dict[int, Process]:
    """Kill all that belongs to `root`, and give what is left after so many s: normally nothing.

    The root has a moment to reap the others and to end by itself. A process that is stopped dies of SIGKILL as any other. It blocks: run it aside.
    """
    began, sessions, empty = time.monotonic(), {root.session} - {os.getsid(0)}, 0
    while True:
        left = family(root, marker, sessions)
        empty = 0 if left else empty + 1
        passed = time.monotonic() - began
        if empty == 2 or passed > seconds:                 # twice: one may have been between two parents
            return left
        spared = root.pid if passed < grace else 0
        for process in left.values():
            _signal(process, signal.SIGCONT if process.pid == spared else signal.SIGKILL)
        for group in {process.group for process in left.values()} | sessions:
            _kill_group(group, root, sessions)
        time.sleep(_PAUSE)


def _signal(process: Process, number: int) -> None:
    now = look(process.pid)
    if now and now.started == process.started:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _kill_group(group: int, root: Process, sessions: set[int]) -> None:
    """Reaches those that a sandbox hides from us too. While a group has members, no other process gets its number."""
    leader = look(group)
    if group in {0, 1, root.group, os.getpgid(0)} or (leader and leader.session not in sessions):
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def stopped(root: Process) -> bool:
    """Whether the root or a process below it was told to stand still (SIGSTOP); or the root has ended."""
    among = everything()
    alive = among.get(root.pid)
    if alive is None or alive.started != root.started or alive.state in _DEAD:
        return True
    return any(among[pid].state in _STOPPED for pid in below(root.pid, among))


def memory(pids: Iterable[int]) -> int:
    """Bytes that they occupy together, shared ones counted once (PSS); of those that do not let us look, what they have alone."""
    return sum(_pss(pid) or private(pid) for pid in pids)


def _pss(pid: int) -> int:
    with suppress(OSError), Path(f"/proc/{pid}/smaps_rollup").open("rb") as rollup:
        for line in rollup:
            if line.startswith(b"Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def private(pid: int) -> int:
    """Bytes that this process has for itself alone: quickly told, in microseconds."""
    with suppress(OSError, ValueError, IndexError):
        told = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return _PAGE * (int(told[1]) - int(told[2]))
    return 0


def free_memory() -> int:
    """Bytes that may still be had: of the machine, and of the control groups that we are in."""
    free = [*_available(), *(room for group in _groups() for room in _room(group))]
    return min(free, default=0)


def _available() -> Iterable[int]:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])


def _groups() -> Iterable[Path]:
    """The folders of our control groups (version 2, or the memory controller of version 1) and of those above them."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in {"", "memory"}:
                top = Path("/sys/fs/cgroup", controllers)
                own = top / path.lstrip("/")
                yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _room(group: Path) -> Iterable[int]:
    """How much more this group may take, none when it may take any amount. What the kernel can drop at once does not count as taken."""
    for limit, taken, cached in (("memory.max", "memory.current", "inactive_file"),
                                 ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")):
        with suppress(OSError, ValueError):                 # "max"
            stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            yield max(0, int((group / limit).read_text()) - int((group / taken).read_text()) + int(stat.get(cached, 0)))


def be_humble() -> None:
    """Of this process and all that it starts: behind others for the processor, before others when memory is short, no endless files, no dumps.

    One core, where there are several, is left to others altogether: who wakes up waits some ms until a busy core is taken from whoever is behind.
    """
    _prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE)                # else Chromium, as root, puts itself before all others
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    with suppress(OSError):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[1:] or cores)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))       # one would hold what the flow typed


def step_back(mine: Collection[int], among: Processes, known: set[int]) -> None:
    """Put the sessions of these processes behind others for the processor, apart from those `known`, to which they are added.

    Where the kernel groups processes by session (sched_autogroup), each session has the same share whatever the niceness in it, and Chromium's is
    one of its own. A session that another one leads is left alone.
    """
    for session in {among[pid].session for pid in mine if pid in among} & set(mine) - known:
        try:
            Path(f"/proc/{session}/autogroup").write_text(str(NICE), encoding="ascii")
        except BlockingIOError:                            # the kernel takes one in a tenth of a second: the next look tries again
            continue
        except OSError:                                    # no such groups here, or it has ended
            pass
        known.add(session)


def adopt_orphans() -> None:
    """From now on what loses its parent below this process becomes its child, not that of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def reap(but: Collection[int] = ()) -> dict[int, int]:
    """The exit codes of children that have ended, by pid, until there is none more or one of `but` was among them."""
    ended: dict[int, int] = {}
    with suppress(ChildProcessError):
        while not ended.keys() & set(but):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended
