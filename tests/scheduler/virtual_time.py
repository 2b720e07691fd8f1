"""An event loop whose time is virtual: it jumps to the next timer, so that hours of schedule run in milliseconds."""

import asyncio
import selectors
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from monitor.clock import Clock
from monitor.jobs import Job
from monitor.scheduler import Concurrency, Hooks, Scheduler
from probes.sample import Outcome, Sample, Trigger

START = 1000.0


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: the time that it was asked to wait has passed at once."""

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__()
        self._virtual = loop

    def select(self, timeout: float | None = None) -> list:
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        self._virtual.jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`jump` moves the time; `early` makes timers fire that much too soon, as uvloop's do (it counts in whole ms)."""

    def __init__(self, early: float = 0.0) -> None:
        self.now, self.turns = START, 0
        super().__init__(_Jumping(self))
        self._clock_resolution = max(early * 1.2, 1e-9)          # asyncio runs timers this much too soon
        self._early = early

    def time(self) -> float:
        return self.now

    def jump(self, seconds: float) -> None:
        self.turns += 1
        self.now += max(0.0, seconds - self._early) if seconds > self._early else 0.0


class LoopClock(Clock):
    """Unix time that goes with the loop's."""

    def __init__(self) -> None:
        self._offset = 1_790_000_000.0

    def now(self) -> float:
        return self._offset + asyncio.get_running_loop().time()


@dataclass
class Bench:
    """A scheduler on virtual time, and all that it told. `takes` says how long a run of a target lasts."""

    jobs: Iterable[Job]
    limits: Concurrency = field(default_factory=Concurrency)
    takes: Callable[[str], float] = lambda _name: 0.05
    outcome: Callable[[str], Outcome] = lambda _name: Outcome.OK
    again: Callable[[Sample], bool] = lambda sample: sample.outcome is not Outcome.OK
    run: Callable[..., object] | None = None
    starts: list[tuple[float, str]] = field(default_factory=list)       # loop time, probe
    turns: list[tuple[int, str]] = field(default_factory=list)          # turn of the loop, probe
    samples: list[Sample] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    late: list[tuple[str, float]] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        hooks = Hooks(accept=self._accept, lateness=lambda group, s: self.late.append((group, s)),
                      missed=lambda target, runs: self.missed.extend([target[0]] * runs), loop_lag=self.lags.append)
        self.scheduler = Scheduler(self.jobs, self.limits, self._run, hooks, LoopClock())

    async def __aenter__(self) -> "Bench":
        await self.scheduler.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.scheduler.__aexit__(*exc)

    def of(self, name: str, *triggers: Trigger) -> list[float]:
        """When the accepted runs of this probe began, in s since the scheduler did."""
        return [round(s.started - 1_790_000_000.0 - START, 6) for s in self.samples if s.probe == name and (not triggers or s.trigger in triggers)]

    def _accept(self, sample: Sample) -> bool:
        self.samples.append(sample)
        return self.again(sample)

    async def _run(self, target: tuple[str, str, str]) -> Sample:
        loop = asyncio.get_running_loop()
        self.starts.append((loop.time(), target[0]))
        self.turns.append((loop.turns, target[0]))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.run:
                return await self.run(target)
            await asyncio.sleep(self.takes(target[0]))
        finally:
            self.under_way -= 1
        return Sample(probe=target[0], device=target[1], cohort=target[2], outcome=self.outcome(target[0]))


def job(name: str = "home", *, interval: float = 30.0, timeout: float = 10.0, recheck: float = 10.0, fast: float | None = None,
        heavy: bool = False, group: str = "http") -> Job:
    return Job((name, "", ""), group, interval, timeout, recheck, interval if fast is None else fast, heavy)


def jump(seconds: float) -> None:
    """The loop stands still so long: a suspended machine, or a callback that blocks."""
    asyncio.get_running_loop().now += seconds
