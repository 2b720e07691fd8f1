"""When each probe runs: one due-time heap, one timer, a deadline per run, concurrency by kind, lag measured.

The scheduler knows no probe: it is handed `run` (one run of a target) and `accept` (what takes the sample).
"""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Self

import structlog
from pydantic import Field

from monitor.clock import Clock
from monitor.health import Target
from monitor.jobs import Job, phase, slot_width
from probes.fields import Duration, Table
from probes.sample import Outcome, Sample, Trigger

log = structlog.get_logger()

LAG_SECONDS = 0.5          # how often the loop's own lag is measured
OVERLOAD_SECONDS = 0.1     # lag above which a run's times are not trusted
STILL_SECONDS = 1.0        # lag, or time spent suspended, above which a run that failed says nothing about the shop
GRACE_SECONDS = 0.5        # a probe ends itself at its timeout; past this it is ended from outside
STOP_SECONDS = 2.0


class Schedule(Table):
    """How often a probe runs."""

    interval: Duration = Field(default=30.0, ge=0.25, le=86400 * 7, description='time between runs, down to "250ms"')
    recheck: Duration = Field(default=10.0, ge=0.1, description="a failed run is repeated this soon")


class Concurrency(Table):
    """How many runs of a kind may be under way at once."""

    http: int = Field(default=256, ge=1, description="http probes")
    browser: int = Field(default=1, ge=1, description="probes that drive a browser")
    other: int = Field(default=32, ge=1, description="probes of all other kinds")


@dataclass(slots=True)
class _Entry:
    job: Job
    phase: float
    due: float = 0.0                     # of the next regular or burst run, loop time
    tick: int = 0                        # regular grid: due = origin + phase + tick * interval
    running: asyncio.Task[None] | None = None
    queued: bool = False
    recheck_due: float | None = None
    burst_due: float | None = None       # of the one burst run on the heap that counts
    gone: bool = False


@dataclass(slots=True)
class _Group:
    limit: int
    busy: int = 0
    waiting: deque[tuple[_Entry, Trigger, float]] = field(default_factory=deque)


Run = Callable[[Target], Awaitable[Sample]]


@dataclass
class Hooks:
    """What the scheduler tells: app hands the rooms in as callables."""

    accept: Callable[[Sample], bool]                                  # True: look again soon
    lateness: Callable[[str, float], None] = lambda _group, _seconds: None
    missed: Callable[[Target, int], None] = lambda _target, _runs: None
    loop_lag: Callable[[float], None] = lambda _seconds: None
    stood_still: Callable[[float], None] = lambda _seconds: None      # the machine, or this process, for so long


class Scheduler:
    """Runs jobs until it is left. Enter it as an async context manager, inside the rooms that it reports to."""

    def __init__(self, jobs: Iterable[Job], limits: Concurrency, run: Run, hooks: Hooks, clock: Clock) -> None:
        jobs = list(jobs)
        width = slot_width(jobs)
        self._entries = {job.target: _Entry(job, phase(job, width)) for job in jobs}
        self._groups = {name: _Group(getattr(limits, name)) for name in Concurrency.model_fields}
        self._run, self._hooks, self._clock = run, hooks, clock
        self._heap: list[tuple[float, int, Trigger, _Entry]] = []
        self._serial = 0
        self._parting: set[asyncio.Task[None]] = set()  # runs of jobs that have gone
        self._fast_until: dict[Target, float] = {}     # loop time; inf while an update is watched
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._failed: asyncio.Future[None]
        self._lags: deque[float] = deque(maxlen=4)
        self._lag_due = math.inf                       # when the loop's lag is measured next
        self._late_at = -math.inf                      # when the loop was last found late
        self._still_at = -math.inf                     # when it was last found to have stood still

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._failed = self._loop.create_future()
        self._origin = self._loop.time()
        self._asleep = self._clock.now() - self._origin            # grows by what the loop's clock does not count: suspension
        for entry in self._entries.values():
            entry.due = self._origin + entry.phase
            self._push(entry.due, Trigger.SCHEDULED, entry)
        self._arm()
        self._watch_lag(self._loop.time() + LAG_SECONDS)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Start nothing more, and end what runs without a verdict on it."""
        self._stopping = True
        for handle in (self._timer, self._lag_timer):
            if handle:
                handle.cancel()
        running = [*self._parting, *(entry.running for entry in self._entries.values() if entry.running)]
        for task in running:
            task.cancel()
        stuck = (await asyncio.wait(running, timeout=STOP_SECONDS))[1] if running else set()
        if stuck:
            log.error("probes did not stop", probes=sorted(task.get_name() for task in stuck))

    def change(self, jobs: Iterable[Job], limits: Concurrency) -> None:
        """Run these from now on. Who stays keeps its phase, its due time and its run under way; the run of one who goes is not told of."""
        jobs = list(jobs)
        width = slot_width(jobs)
        for target in self._entries.keys() - {job.target for job in jobs}:
            self._fast_until.pop(target, None)
            gone = self._entries.pop(target)
            gone.gone = True
            if gone.running:
                self._parting.add(gone.running)
                gone.running.add_done_callback(self._parting.discard)
        for job in jobs:
            self._take_in(job, width)
        for name, group in self._groups.items():
            group.limit = getattr(limits, name)
            self._next_waiting(group)
        self._arm()

    def _take_in(self, job: Job, width: float) -> None:
        """A new job begins within its interval, a changed one goes on: no run twice as late as it should be, none too early."""
        now, entry = self._loop.time(), self._entries.get(job.target)
        if entry and entry.job == job:
            return
        first = self._grid(phase(job, width), job.interval, now)
        if entry is None:
            entry = self._entries[job.target] = _Entry(job, phase(job, width))
        else:
            last, entry.job, entry.burst_due = entry.due - entry.job.interval, job, None
            first = last + job.interval if last + job.interval > now else min(entry.due, first)
        entry.phase = (first - self._origin) % job.interval
        entry.tick = round((first - self._origin - entry.phase) / job.interval)
        entry.due = first
        self._push(first, Trigger.SCHEDULED, entry)
        if self._fast_until.get(job.target, 0.0) > now and job.fast < job.interval:
            self._push_burst(entry, now)

    def _grid(self, at: float, interval: float, now: float) -> float:
        """The next point of a grid after `now`, loop time."""
        return self._origin + at + max(0, math.ceil((now - self._origin - at) / interval)) * interval

    @property
    def behind(self) -> float:
        """Seconds by which the next start is overdue; 0 when all is well."""
        return max(0.0, self._loop.time() - self._heap[0][0]) if self._heap else 0.0

    async def failed(self) -> None:
        """Returns never, or raises what went wrong inside the scheduler itself."""
        await self._failed

    @property
    def overloaded(self) -> bool:
        """The event loop was late in the last two seconds: the host, or we, have too much to do."""
        # What woke together with the lag timer may run before it: a lag that is still to be measured counts, too.
        return max(*self._lags, self._loop.time() - self._lag_due, 0.0) > OVERLOAD_SECONDS

    def hurry(self, targets: Iterable[Target], seconds: float) -> None:
        """Run these at their faster spacing for `seconds` from now (inf: until `relax`)."""
        now = self._loop.time()
        for target in targets:
            entry = self._entries.get(target)
            if entry is None or entry.job.fast >= entry.job.interval:
                continue
            hurrying = self._fast_until.get(target, 0.0) > now
            self._fast_until[target] = max(now + seconds, self._fast_until.get(target, 0.0))
            if not hurrying:
                self._push_burst(entry, now)
        self._arm()

    def relax(self) -> None:
        """Back to the regular spacing."""
        self._fast_until.clear()

    def spacing(self, target: Target) -> float:
        """Seconds between the runs of this target at this moment."""
        entry = self._entries[target]
        return entry.job.fast if self._fast_until.get(target, 0.0) > self._loop.time() else entry.job.interval

    def _push(self, due: float, trigger: Trigger, entry: _Entry) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (due, self._serial, trigger, entry))

    def _push_burst(self, entry: _Entry, after: float) -> None:
        """The next run between two regular ones, on a grid through these; none if a regular one comes first."""
        fast = entry.job.fast
        steps = math.ceil((entry.due - after) / fast - 1e-6) - 1
        due = entry.due - steps * fast
        if steps > 0:
            entry.burst_due = due
            self._push(due, Trigger.BURST, entry)

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._tick) if self._heap and not self._stopping else None

    def _tick(self) -> None:
        """Start all that is due. A heavy probe is started alone: the rest waits for the next turn of the loop."""
        self._timer = None
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now + 0.0005:
            due, _, trigger, entry = heapq.heappop(self._heap)
            if self._due(entry, trigger, due, now) and entry.job.heavy:
                break
        self._arm()

    def _due(self, entry: _Entry, trigger: Trigger, due: float, now: float) -> bool:
        """Start the run, or count it as missed; put the next one on the heap. True if a run was started."""
        if not self._still_wanted(entry, trigger, due):
            return False
        self._reschedule(entry, trigger, due, now)
        if entry.running or entry.queued:
            if trigger is not Trigger.RECHECK:
                self._hooks.missed(entry.job.target, 1)
            return False
        return self._start(entry, trigger, due)

    def _still_wanted(self, entry: _Entry, trigger: Trigger, due: float) -> bool:
        if entry.gone:
            return False
        if trigger is Trigger.RECHECK:
            return entry.recheck_due == due
        if trigger is Trigger.BURST and entry.burst_due == due:
            entry.burst_due = None
            return self._fast_until.get(entry.job.target, 0.0) > due
        return trigger is Trigger.SCHEDULED and entry.due == due

    def _reschedule(self, entry: _Entry, trigger: Trigger, due: float, now: float) -> None:
        job = entry.job
        if trigger is Trigger.RECHECK:
            entry.recheck_due = None
            return
        if trigger is Trigger.BURST:
            self._push_burst(entry, max(due, now))
            return
        skipped = max(0, int((now - due) // job.interval))  # suspended, or starved: no run is made up for
        entry.tick += 1 + skipped
        entry.due = self._origin + entry.phase + entry.tick * job.interval
        self._push(entry.due, Trigger.SCHEDULED, entry)
        if skipped:
            self._hooks.missed(job.target, skipped)
        if self._fast_until.get(job.target, 0.0) > now:
            self._push_burst(entry, max(due, now))          # a timer may fire a little early

    def _start(self, entry: _Entry, trigger: Trigger, due: float) -> bool:
        group = self._groups[entry.job.group]
        if group.busy >= group.limit:
            entry.queued = True
            group.waiting.append((entry, trigger, due))
            return False
        group.busy += 1
        self._hooks.lateness(entry.job.group, self._loop.time() - due)
        entry.running = self._loop.create_task(self._one(entry, trigger, group), name=f"probe {entry.job.target[0]}")
        entry.running.add_done_callback(self._ended)
        return True

    async def _one(self, entry: _Entry, trigger: Trigger, group: _Group) -> None:
        job = entry.job
        try:
            if entry.gone:
                return                                       # in the very turn of the loop in which it was to start
            spacing, started, begun = self.spacing(job.target), self._clock.now(), self._loop.time()
            sample = await self._guarded(job)
        finally:
            entry.running = None
            group.busy -= 1
            self._next_waiting(group)
        if _cancelled():
            return                                           # stopping: no word on a run that we ended ourselves
        if entry.gone:
            return                                           # no longer configured: nobody knows what to do with it
        if (sample.outcome is Outcome.FAILED or sample.reason == "deadline") and self._stood_still_since(begun):
            sample = replace(sample, outcome=Outcome.BROKEN, reason="suspended")
        overloaded = sample.overloaded or self.overloaded or self._late_at >= begun
        sample = replace(sample, started=started, ended=self._clock.now(), trigger=trigger, spacing=spacing, overloaded=overloaded)
        self._recheck(entry, again=self._hooks.accept(sample))

    async def _guarded(self, job: Job) -> Sample:
        """One run, ended from outside if it does not end itself: that is then our fault, not the shop's."""
        probe, device, cohort = job.target
        deadline = asyncio.timeout(job.timeout + GRACE_SECONDS)
        try:
            async with deadline:
                return await self._run(job.target)
        except (Exception, asyncio.CancelledError) as error:  # the door around a probe run
            if _cancelled():
                raise
            if deadline.expired() and isinstance(error, TimeoutError):
                return Sample(probe=probe, device=device, cohort=cohort, outcome=Outcome.BROKEN, reason="deadline", seconds=job.timeout)
            log.exception("probe raised", probe=probe)
            return Sample(probe=probe, device=device, cohort=cohort, outcome=Outcome.BROKEN, reason="internal")

    def _recheck(self, entry: _Entry, *, again: bool) -> None:
        due, entry.recheck_due = self._loop.time() + entry.job.recheck, None
        if again and not entry.gone and due < entry.due:
            entry.recheck_due = due
            self._push(due, Trigger.RECHECK, entry)
            self._arm()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What went wrong outside the door is ours: it ends the daemon, and systemd starts it again."""
        if not task.cancelled() and (error := task.exception()) and not self._failed.done() and not self._stopping:
            self._failed.set_exception(error)

    def _next_waiting(self, group: _Group) -> None:
        while group.waiting and group.busy < group.limit and not self._stopping:
            entry, trigger, due = group.waiting.popleft()
            entry.queued = False
            if not entry.gone:
                self._start(entry, trigger, due)

    def _watch_lag(self, due: float) -> None:
        def measure() -> None:
            now = self._loop.time()
            lag = max(0.0, now - due)
            self._lags.append(lag)
            self._late_at = now if lag > OVERLOAD_SECONDS else self._late_at
            self._hooks.loop_lag(lag)
            self._watch_sleep(now, lag)
            self._watch_lag(now + LAG_SECONDS)
        self._lag_due = due
        self._lag_timer = self._loop.call_at(due, measure)

    def _watch_sleep(self, now: float, lag: float) -> None:
        """What was missed while suspended is counted as what was missed while starved is; the schedule goes on where it was."""
        asleep = self._clock.now() - now - self._asleep
        self._asleep += asleep
        if asleep > STILL_SECONDS:
            for entry in self._entries.values():
                if skipped := int(asleep // entry.job.interval):
                    self._hooks.missed(entry.job.target, skipped)
        if max(asleep, lag) > STILL_SECONDS:
            self._still_at = now
            self._hooks.stood_still(max(asleep, 0.0) + lag)

    def _stood_still_since(self, begun: float) -> bool:
        """Whether the machine or this process stood still since then (loop time), also when nobody has measured it yet."""
        now = self._loop.time()
        unmeasured = max(now - self._lag_due, self._clock.now() - now - self._asleep)
        return self._still_at >= begun or unmeasured > STILL_SECONDS


def _cancelled() -> bool:
    """Whether we cancelled the run that is under way; what it awaited may have been cancelled without us."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
