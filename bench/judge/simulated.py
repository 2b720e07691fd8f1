"""A simulated shop and one update of it: time is made up, what judges is the daemon's own `freeze` and `Case`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from monitor.before import ENOUGH_FAST, MOST_OBSERVED
from monitor.chores import BURST_SECONDS
from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.ruling import Ruling
from monitor.judge.signals import Run, Subject, TargetKey, margin_for
from monitor.judge.verdict import LONGEST_OBSERVATION, Case, Judging
from probes.sample import Signal

NOW = 1_700_006_400.0             # a multiple of the time between two bursts
SIGNALS = (Signal("success", "bernoulli"), Signal("duration", "latency"))
SETTINGS = Judging()
BURST_EVERY = 21_600.0            # s; four a day
ROLLOUT = 600.0                   # s for which an update is open
SHARE = 0.5                       # of the false-alarm budget, for either of the two segments: monitor/under_watch.py
REGULAR, FAST, CHECKOUT = 30.0, 10.0, 300.0    # s: the defaults, at a timeout of 10 s
BLIP = 40.0                       # s that a failure lasts


# The shop


@dataclass(frozen=True, slots=True)
class Weather:
    """How each target behaves: the logarithm of its durations has spread `sigma` and forgets itself within `memory` s."""

    memory: float = 0.0
    failing: str = "never"        # one of FAILING
    sigma: float = 0.3


FAILING = ("never", "40 s", "40 s, all at once", "1 %")


def blips(random: Random, begin: float, end: float) -> list[float]:
    """When failures of BLIP seconds begin, so that 0.5 % of the time fails."""
    at, found = begin, []
    while (at := at + random.expovariate(0.005 / BLIP)) < end:
        found.append(at)
    return found


class Nature:
    """What one target does as time goes on; asked in the order of time."""

    def __init__(self, weather: Weather, random: Random, down: Sequence[float], typical: float) -> None:
        self._weather, self._random, self._typical = weather, random, typical
        self._down, self._next = down, 0
        self._at, self._level = -math.inf, random.gauss(0, 1)

    def run(self, at: float, spacing: float) -> Run:
        """One run at this time."""
        memory = self._weather.memory
        kept = math.exp((self._at - at) / memory) if memory else 0.0
        self._level = kept * self._level + math.sqrt(1 - kept * kept) * self._random.gauss(0, 1)
        self._at = at
        return Run(at, not self._fails(at), self._typical * math.exp(self._weather.sigma * self._level), spacing)

    def _fails(self, at: float) -> bool:
        if self._weather.failing == "1 %":
            return self._random.random() < 0.01
        while self._next < len(self._down) and self._down[self._next] + BLIP <= at:
            self._next += 1
        return self._next < len(self._down) and self._down[self._next] <= at


@dataclass(frozen=True, slots=True)
class Target:
    """A target, and its spacings in s: always, and while it is hurried."""

    subject: Subject
    interval: float = REGULAR
    fast: float = FAST

    def place(self, start: float, number: int, spacing: float) -> float:
        """When its run `number` is due, counted from the start of the update."""
        return round(start + Random(self.subject.name).uniform(0, self.interval) + number * spacing, 3)

    def is_regular(self, at: float, start: float) -> bool:
        """Whether a run at this time is on the grid that goes on all day."""
        return math.isclose(math.remainder(at - self.place(start, 0, self.interval), self.interval), 0.0, abs_tol=0.01)


def target(name: str, *, kind: str = "http", device: str = "", critical: bool = True, interval: float = REGULAR, fast: float = FAST) -> Target:
    """A target with the margins of its kind."""
    return Target(Subject(name, device, "", kind, critical, False, margin_for(kind), SIGNALS), interval, fast)


def usual_shop(interval: float = CHECKOUT, fast: float | None = None) -> list[Target]:
    """Five pages, two of them critical, and a checkout on two devices that runs at these spacings (s)."""
    pages = [target(f"page{number}", critical=number < 2) for number in range(5)]
    return pages + [target("checkout", kind="checkout", device=name, interval=interval, fast=fast or interval) for name in ("desktop", "phone")]


@dataclass(slots=True)
class Shop:
    """A shop from `age` seconds before an update at `start` on; the same seed gives the same shop."""

    targets: Sequence[Target]
    weather: Weather
    seed: int
    age: float = SETTINGS.baseline
    start: float = field(init=False)
    _natures: dict[TargetKey, Nature] = field(init=False)

    def __post_init__(self) -> None:
        random = Random(f"{self.seed}")
        self.start = NOW + random.uniform(0, BURST_EVERY)
        begin, end = self.start - self.age, self.start + 4 * LONGEST_OBSERVATION
        together = blips(random, begin, end)
        self._natures = {}
        for of in self.targets:
            own = Random(f"{self.seed} {of.subject.name}")
            down = {"40 s": blips(own, begin, end), "40 s, all at once": together}.get(self.weather.failing, [])
            self._natures[of.subject.key] = Nature(self.weather, own, down, 8.0 if of.subject.kind == "checkout" else 0.2)

    def frozen(self, of: Target, *, power: bool = True) -> Baseline:
        """The past as monitor/before.py freezes it: from bursts if there are enough of them, else at the regular spacing."""
        grid = self._grid(of)
        regular = [at for at in grid if of.is_regular(at, self.start)][-WORTH_READING:]
        bursts = [at for at in grid if of.fast < of.interval and any(begin <= at < begin + BURST_SECONDS for begin in self._bursts())]
        hurried = len(bursts) >= ENOUGH_FAST
        spacing = of.fast if hurried else of.interval
        horizon = min(math.ceil(LONGEST_OBSERVATION / spacing), MOST_OBSERVED) if power and of.subject.critical else 0
        nature = self._natures[of.subject.key]
        ran = {at: nature.run(at, of.interval) for at in sorted({*regular, *bursts})}
        slow = [ran[at] for at in regular]
        if not hurried:
            return freeze(of.subject, slow, spacing=spacing, horizon=horizon)
        fast = [replace(ran[at], spacing=spacing, regular=of.is_regular(at, self.start)) for at in bursts]
        return freeze(of.subject, fast, spacing=spacing, horizon=horizon, regular=slow, interval=of.interval)

    def _bursts(self) -> list[float]:
        """When those of the last WORTH_READING fast runs began."""
        most = math.ceil(min(self.age / BURST_EVERY, WORTH_READING * FAST / BURST_SECONDS))
        return [NOW - back * BURST_EVERY for back in range(most, -1, -1)]

    def _grid(self, of: Target) -> list[float]:
        """Times of the runs before the update: all day on the regular grid, and in the bursts between."""
        begin = self.start - self.age
        grid = {of.place(self.start, -back, of.interval) for back in range(1, min(math.floor(self.age / of.interval), WORTH_READING) + 1)}
        if of.fast < of.interval:
            for at in self._bursts():
                first = math.ceil((at - of.place(self.start, 0, of.fast)) / of.fast)
                grid |= {of.place(self.start, first + place, of.fast) for place in range(math.ceil(BURST_SECONDS / of.fast))}
        return sorted(at for at in grid if begin <= at < self.start)

    def after(self, baselines: Sequence[Baseline], begin: float, end: float) -> Iterator[tuple[TargetKey, Run]]:
        """The runs of these targets from `begin` to `end` in the order of time, at the spacings of their baselines."""
        targets = {of.subject.key: of for of in self.targets}
        times = []
        for baseline in baselines:
            of, spacing = targets[baseline.subject.key], baseline.spacing
            first = math.ceil((begin - of.place(self.start, 0, spacing)) / spacing)
            count = math.ceil((end - begin) / spacing)
            times += [(of.place(self.start, first + number, spacing), of, spacing) for number in range(count)]
        for at, of, spacing in sorted(times, key=lambda row: row[0]):
            if at < end:
                yield of.subject.key, replace(self._natures[of.subject.key].run(at, spacing), regular=of.is_regular(at, self.start))


# One update


@dataclass(frozen=True, slots=True)
class End:
    """How an update ended, how long after its finish (s), which test raised an alarm, and the runs that each required signal needed."""

    verdict: str
    reason: str
    after_finish: float
    cause: str = ""
    needed: tuple[tuple[str, int | None], ...] = ()


def updated(shop: Shop, *, power: bool = True, observe: float = LONGEST_OBSERVATION) -> End:
    """An update that changes nothing: open, finished, observed until there is a verdict, for at most `observe` s."""
    baselines = [shop.frozen(of, power=power) for of in shop.targets]
    finish = shop.start + ROLLOUT
    watch = LONGEST_OBSERVATION + SETTINGS.warm_up
    for begin, end, final in ((shop.start, finish, False), (finish, finish + SETTINGS.warm_up + observe, True)):
        case = Case(baselines, SETTINGS, share=SHARE, watch=watch)
        pace = {baseline.subject.key: baseline.spacing for baseline in baselines}
        ruling, at = _observed(case, shop.after(baselines, begin, end), begin + SETTINGS.warm_up, pace, final=final)
        if ruling.verdict != "watching" or final:
            return End(ruling.verdict, ruling.reason, at - finish, cause(case) if case.alarm else "", _needed(ruling))
    raise AssertionError


def _observed(
    case: Case, runs: Iterator[tuple[TargetKey, Run]], warm_until: float, pace: Mapping[TargetKey, float], *, final: bool,
) -> tuple[Ruling, float]:
    """The verdict and when it fell. A ruling takes long: it is asked for at an alarm, and when a pass may have come."""
    ask_at = at = 0.0
    for key, run in runs:
        at = run.at
        case.add(key, run, warm=at < warm_until)
        if case.alarm or (final and at >= ask_at):
            ruling = case.ruling(final=final)
            if ruling.verdict != "watching":
                return ruling, at
            ask_at = at + _lacking(ruling, pace)
    return case.ruling(final=final, over=final), at


def _lacking(ruling: Ruling, pace: Mapping[TargetKey, float]) -> float:
    """Seconds before which there can be no PASS."""
    waits = [FAST]
    for row in ruling.signals:
        if row.required and not row.ruled_clean:
            more = math.inf if row.needed is None else row.needed - row.n_after
            waits.append((more - 1) * pace[TargetKey(row.probe, row.device, row.cohort)])
    return max(waits)


def _needed(ruling: Ruling) -> tuple[tuple[str, int | None], ...]:
    return tuple(("checkout " * (row.probe == "checkout") + row.signal, row.needed) for row in ruling.signals if row.required)


def cause(case: Case) -> str:
    """Which test crossed its bound: the mean of all bets, or a test of one signal with a budget of its own."""
    if case._bets_past() >= 0:  # noqa: SLF001 - nobody else asks
        strongest = max(case._signals, key=lambda watched: watched.weight * watched.gated())  # noqa: SLF001
        return f"bets ({strongest.signal.name})"
    for watched in case._signals:  # noqa: SLF001
        if watched.counted() >= 0:
            if watched.signal.test == "bernoulli":
                return "failure bursts"
            slow = [bursts.past(watched.fit.stretch) for _, bursts in watched.evidence._bursts]  # type: ignore[attr-defined]  # noqa: SLF001
            return "slow bursts" if max(slow) >= watched.handicap else "rank sum"
    return "unknown"


# Harm


def harmed(run: Run, harm: str, random: Random) -> Run:
    """The run in a shop that got worse."""
    if harm == "x1.5":
        return replace(run, seconds=run.seconds * 1.5)
    return replace(run, ok=run.ok and random.random() >= (0.2 if harm.startswith("fail") else 1.0))


def delays(shop: Shop, harm: str) -> tuple[float, float]:
    """Runs of the first target until it is blamed: alone, and among all of them; inf when it is not within an hour.

    One segment without a warm-up, so that the ratio is that of the evidence alone.
    """
    baselines = [shop.frozen(of, power=False) for of in shop.targets]
    random, key = Random(f"{shop.seed} {harm}"), baselines[0].subject.key
    runs = [(of, harmed(run, harm, random) if of == key else run) for of, run in shop.after(baselines, shop.start, shop.start + 3600.0)]
    alone = _found(baselines[:1], [pair for pair in runs if pair[0] == key], key)
    return alone, _found(baselines, runs, key)


def _found(baselines: Sequence[Baseline], runs: Sequence[tuple[TargetKey, Run]], key: TargetKey) -> float:
    case = Case(baselines, SETTINGS, share=SHARE, watch=LONGEST_OBSERVATION + SETTINGS.warm_up)
    count = 0
    for of, run in runs:
        count += of == key
        case.add(of, run, warm=False)
        if case.alarm:
            blamed = any(row.guilty and row.probe == key.probe for row in case.ruling(final=False).signals)
            return count if blamed else math.inf
    return math.inf
