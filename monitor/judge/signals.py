"""What the judge reads: runs as the store gives them back, and what the configuration says of their target."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import Field

from probes.fields import Table
from probes.sample import Signal

CHECKOUT_SUCCESS_MARGIN = 0.20    # it runs every few minutes: 24 good runs cannot rule out less (detection.md 8.3)
SPACING_TOLERANCE = 0.10          # spacings this close are the same spacing
MOST_NAMES = 40                   # signals that one "/*" may become: names come from the shop
STOPPED_AFTER = 10                # good runs without a name that nearly all had before: it stopped reporting
_NEARLY_ALL = 0.9                 # share of the runs before

# What a test takes in: 1.0 or 0.0 (bernoulli), s (latency), events (count, silence), (numerator, denominator) (ratio),
# {signature: events} (novelty). Each kind of test knows its own; to all others it is opaque.
Reading = Any


class TargetKey(NamedTuple):
    """One series of runs; equal to the plain tuple."""

    probe: str
    device: str
    cohort: str


class Margin(Table):
    """What counts as worse, as shares: failures by `success` more, the median by `p50`, the slow tail by `p95`."""

    success: float = Field(default=0.05, gt=0, le=1, strict=False, description="this share of runs more fails")
    p50: float = Field(default=0.20, gt=0, le=10, strict=False, description="the usual duration is longer by this share")
    p95: float = Field(default=0.30, gt=0, le=10, strict=False, description="the slow tail is longer by this share")


def margin_for(kind: str, *given: Margin | None) -> Margin:
    """The margin of a probe of this kind; a key set in a later one of `given` ([update], then the probe) wins."""
    chosen: dict[str, float] = {"success": CHECKOUT_SUCCESS_MARGIN} if kind == "checkout" else {}
    for margin in given:
        if margin is not None:
            chosen |= margin.model_dump(include=margin.model_fields_set)
    return Margin(**chosen)


@dataclass(frozen=True, slots=True)
class Run:
    """One judged run of one target: trigger *scheduled* or *burst*, never rechecked or manual, and not broken."""

    at: float                              # Unix s, start
    ok: bool
    seconds: float                         # duration, meant when ok
    spacing: float                         # s between the runs of this target at that moment
    regular: bool = True                   # on the regular grid, which goes on while a target is hurried
    overloaded: bool = False               # this host was: the outcome still counts, the time is not judged
    values: Mapping[str, float] = field(default_factory=dict)     # further measured durations in s, by name; "step/pay" too
    passed: Mapping[str, bool] = field(default_factory=dict)      # steps that were reached, by name: "step/pay"
    counts: Mapping[str, int] = field(default_factory=dict)       # events since the run before, by name


@dataclass(frozen=True, slots=True)
class Subject:
    """A target as the configuration has it."""

    probe: str
    device: str
    cohort: str
    kind: str
    critical: bool
    control: bool
    margin: Margin
    signals: tuple[Signal, ...]
    beside: str = ""               # name of the probe that is its control cohort: same kind, same url, no cohort

    @property
    def key(self) -> TargetKey:
        """Names the series."""
        return TargetKey(self.probe, self.device, self.cohort)

    @property
    def name(self) -> str:
        """How a person is told of it: "pay", "pay on iPhone 15", "home (canary)"."""
        return self.probe + (f" on {self.device}" if self.device else "") + (f" ({self.cohort})" if self.cohort else "")


def read(signal: Signal, run: Run) -> Reading | None:
    """What `signal` has to say about `run`, as its test takes it; None when it says nothing.

    A number that is not finite, or is negative, says nothing.
    """
    if signal.test == "bernoulli":
        outcome = run.passed.get(signal.value) if signal.value else run.ok
        return None if outcome is None else 1.0 if outcome else 0.0
    if signal.test == "latency":
        return _time(signal, run)
    if signal.test == "ratio":
        return _share(signal, run)
    if signal.test == "novelty":
        skip = len(signal.value)
        return {name[skip:]: count for name, count in run.counts.items() if name.startswith(signal.value) and count > 0}
    return _number(run.counts.get(signal.value))


def _time(signal: Signal, run: Run) -> float | None:
    """A step that passed says how long it took, although the run may have failed later."""
    if run.overloaded or not run.passed.get(signal.value, run.ok):
        return None
    return _number(run.values.get(signal.value) if signal.value else run.seconds)


def _share(signal: Signal, run: Run) -> tuple[float, float] | None:
    """(events, tries), the events at most as many as the tries. When less is worse the tries without the event are counted."""
    events, tries = _number(run.counts.get(signal.value)), _number(run.counts.get(signal.per))
    if events is None or not tries:
        return None
    events = min(events, tries)
    return (tries - events if signal.harm == "down" else events), tries


def _number(given: float | None) -> float | None:
    return float(given) if given is not None and math.isfinite(given) and given >= 0 else None


def expand(signals: Iterable[Signal], runs: Sequence[Run]) -> tuple[Signal, ...]:
    """`signals` with each "/*" replaced by a signal for every such name in `runs`, at most MOST_NAMES of the most frequent.

    A `per` that ends so becomes the same name as its `value`: "server_errors/*" per "requests/*" is one ratio for every group.
    """
    out: list[Signal] = []
    for signal in signals:
        if not signal.value.endswith("/*"):
            out.append(signal)
            continue
        prefix = signal.value[:-1]
        seen = Counter(name for run in runs for name in _names(signal, run) if name.startswith(prefix))
        often = sorted(seen, key=lambda name: (-seen[name], name))[:MOST_NAMES]
        out += [_for(signal, name, name[len(prefix):]) for name in sorted(often)]
    return tuple(out)


def _for(signal: Signal, value: str, part: str) -> Signal:
    """A signal with "/*", for one of its names."""
    per = signal.per[:-1] + part if signal.per.endswith("/*") else signal.per
    return replace(signal, name=_named(signal.name, part), value=value, per=per)


def _names(signal: Signal, run: Run) -> Iterable[str]:
    """The names under which `run` may hold what the test of `signal` reads."""
    return {"bernoulli": run.passed, "latency": run.values}.get(signal.test, run.counts)


def _named(pattern: str, name: str) -> str:
    return pattern.replace("*", name) if "*" in pattern else f"{pattern}/{name}"


def appeared(signals: Sequence[Signal], run: Run) -> set[str]:
    """Names in `run` that look like those of the expanded `signals` ("step/...") but were not there before the update."""
    known = {signal.value for signal in signals if "/" in signal.value and signal.test != "novelty"}
    alike = tuple({name.split("/", 1)[0] + "/" for name in known})
    return {name for name in (*run.passed, *run.values, *run.counts) if name.startswith(alike) and name not in known} if alike else set()


def stopped(before: int, runs_before: int, after: int, good_after: int) -> bool:
    """Whether a signal vanished with the update: nearly all runs before had it, and none of the good runs since.

    Runs that failed do not count: they may not have come that far. What stopped reporting is not clean.
    """
    return not after and good_after >= STOPPED_AFTER and before >= _NEARLY_ALL * runs_before > 0


def is_main(signal: Signal) -> bool:
    """True for what a PASS may need: the outcome of a target and its whole duration."""
    return signal.test in {"bernoulli", "latency"} and not signal.value


def is_main_time(signal: Signal) -> bool:
    """True for the one duration of a target that a PASS needs; its phases and web vitals only add evidence."""
    return signal.test == "latency" and is_main(signal)


def same_spacing(one: float, other: float) -> bool:
    """True when runs of these spacings (s) may be compared.

    Sampling faster than the baseline multiplies false alarms, since near runs are alike (detection.md 8.1).
    """
    return abs(one - other) <= SPACING_TOLERANCE * max(one, other)
