"""The real scheduler and the real http probe beside a street of servers, and what the street did to them.

A machine with other work withholds the processor; that is not the street's doing. The kernel tells for how long this
thread was ready to run and was not let (schedstat), and how much the hypervisor took (steal): lags and lateness are
counted without that time, and without the queue that it left until this thread has had as much time to spare. A run that
was ended by its time-out is not judged if half of that was withheld. Nothing else is forgiven.
"""

import asyncio
import contextlib
import gc
import json
import re
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic, thread_time
from typing import Any, Self

from processes import Withheld

from monitor.clock import Clock
from monitor.jobs import Job
from monitor.scheduler import Concurrency, Hooks, Scheduler
from probes.clients import Clients
from probes.http import HttpSettings, probe
from probes.sample import Sample

STEP = 0.005                # s between two looks at the loop's lag
_MARKS = 2_000              # looks that are kept: what lies further back than 10 s is not asked for


@dataclass(frozen=True, slots=True)
class Target:
    """One address of a street; `reasons` are the right ones."""

    name: str
    reasons: frozenset[str]
    settings: HttpSettings


@dataclass
class Record:
    """What came of one target; durations in s, less what was withheld. Small, because a long stay has many runs."""

    target: Target
    seconds: "array[float]" = field(default_factory=lambda: array("d"))     # as measured by the probe
    late: "array[float]" = field(default_factory=lambda: array("d"))        # from when a run was due until the probe began
    over: float = -inf                                                      # the worst run's end, from its deadline
    wrong: dict[str, str] = field(default_factory=dict)                     # reasons that should not be, each with its first evidence
    failed: int = 0                                                         # runs with a wrong reason
    missed: int = 0                                                         # runs left out, because one was still under way
    excused: int = 0                                                        # so many more, while half of an interval was withheld

    def add(self, sample: Sample, *, late: float, took: float, kept: float) -> None:
        """Note one run. `took` is less what was withheld, `kept`."""
        self.seconds.append(sample.seconds)
        self.late.append(max(0.0, late))
        self.over = max(self.over, took - self.target.settings.timeout)
        starved = sample.reason.endswith("timeout") and kept > self.target.settings.timeout / 2
        if sample.reason not in self.target.reasons and not starved:
            self.failed += 1
            self.wrong.setdefault(sample.reason, sample.evidence)


@dataclass
class Stay:
    """What was seen while the probes ran. `lags` are the loop's, each less what was withheld meanwhile, in s."""

    records: dict[str, Record]
    lags: "array[float]" = field(default_factory=lambda: array("d"))
    worst_raw_lag: float = 0.0
    _marks: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=_MARKS))     # instant, withheld by then, queue

    def of(self, targets: Iterable[Target]) -> list[Record]:
        """What came of these targets."""
        return [self.records[target.settings.name] for target in targets]

    def wrong(self) -> set[tuple[str, str, str]]:
        """Name, reason and evidence of what should not have come out so."""
        return {(record.target.name, reason, evidence) for record in self.records.values() for reason, evidence in record.wrong.items()}

    async def watch(self, withheld: Withheld) -> None:
        """Measure the loop's lag until cancelled, independently of the scheduler's own measuring."""
        queue = 0.0              # s of work that waits because of what was withheld, at most
        while True:
            before, busy, held = monotonic(), thread_time(), withheld()
            self._marks.append((before, held, queue))
            await asyncio.sleep(STEP)
            passed, worked, kept = monotonic() - before, thread_time() - busy, withheld() - held
            self.worst_raw_lag = max(self.worst_raw_lag, passed - STEP)
            self.lags.append(max(0.0, passed - STEP - kept))
            spare = max(0.0, passed - worked - kept)
            queue = max(0.0, queue + kept - spare)

    def withheld_since(self, instant: float, held: float) -> float:
        """What has been withheld since then, `held` being what it is by now; with the queue that there was, by the last look before it."""
        return next((max(0.0, held - then) + queue for at, then, queue in reversed(self._marks) if at <= instant), 0.0)


async def stay(targets: Iterable[Target], clients: Clients, *, seconds: float, interval: float) -> Stay:
    """Probe the targets for so long, each every `interval` s."""
    seen, withheld = Stay({target.settings.name: Record(target) for target in targets}), Withheld()
    dues: deque[float] = deque()
    loop = asyncio.get_running_loop()

    async def run(key: tuple[str, str, str]) -> Sample:
        # Tasks start in the order in which the scheduler made them, and it has told the lateness of each just before.
        record, due, began, held = seen.records[key[0]], dues.popleft(), monotonic(), withheld()
        late = began - due - seen.withheld_since(due, held)
        sample = await probe(record.target.settings, clients)
        took, kept = monotonic() - began, withheld() - held
        record.add(sample, late=late, took=took - kept, kept=kept)
        return sample

    def missed(key: tuple[str, str, str], runs: int) -> None:
        if seen.withheld_since(monotonic() - interval, withheld()) > interval / 2:
            seen.records[key[0]].excused += runs
        else:
            seen.records[key[0]].missed += runs

    hooks = Hooks(accept=lambda _: False, lateness=lambda _, late: dues.append(loop.time() - late), missed=missed)
    jobs = [Job((name, "", ""), "http", interval, record.target.settings.timeout, interval, interval, record.target.settings.url.startswith("https"))
            for name, record in seen.records.items()]
    watcher = asyncio.create_task(seen.watch(withheld))
    try:
        async with Scheduler(jobs, Concurrency(), run, hooks, Clock()):
            await asyncio.sleep(seconds)
    finally:
        watcher.cancel()
        withheld.close()
    return seen


# Streets -------------------------------------------------------------------------------------------------------------

@dataclass
class Street:
    """A street in a process of its own; an async context manager."""

    role: str
    folder: Path
    names: str = ""
    targets: list[Target] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        script = Path(__file__).with_name("street.py")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), self.role, str(self.folder),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22,
        )
        assert self._process.stdout
        told = json.loads(await self._process.stdout.readline())
        self.names = told["names"]
        self.targets = [_target(f"{self.role}-{number}", row) for number, row in enumerate(told["targets"])]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _target(name: str, row: dict[str, Any]) -> Target:
    settings = HttpSettings.model_validate({"name": name, "url": row["url"], **row["keys"]})
    return Target(row["name"], frozenset(row["reasons"]), settings)


# Memory --------------------------------------------------------------------------------------------------------------

def memory(field_name: str) -> int:
    """VmRSS or VmHWM of this process, in kB."""
    found = re.search(rf"{field_name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


@contextlib.contextmanager
def peak() -> Iterator[dict[str, int]]:
    """The growth of this process's resident memory at its highest, in kB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, grown = memory("VmRSS"), {}
    yield grown
    grown["kB"] = memory("VmHWM") - before


def threads() -> int:
    """Threads of this process, also those that Python did not start."""
    return len(list(Path("/proc/self/task").iterdir()))


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of all does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
