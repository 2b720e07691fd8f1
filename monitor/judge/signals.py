"""What the judge reads: runs as the store gives them back, and what the configuration says of their target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from probes.fields import Table
from probes.sample import Signal

CHECKOUT_SUCCESS_MARGIN = 0.20    # it runs every few minutes: 24 good runs cannot rule out less (detection.md 8.3)
SPACING_TOLERANCE = 0.10          # spacings this close are the same spacing


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
    overloaded: bool = False               # this host was: the outcome still counts, the time is not judged
    values: Mapping[str, float] = field(default_factory=dict)     # further measured durations in s, by name


@dataclass(frozen=True, slots=True)
class Subject:
    """A target as the configuration has it. A cohort is judged against its own past, not yet against its control."""

    probe: str
    device: str
    cohort: str
    kind: str
    critical: bool
    control: bool
    margin: Margin
    signals: tuple[Signal, ...]

    @property
    def key(self) -> TargetKey:
        """Names the series."""
        return TargetKey(self.probe, self.device, self.cohort)

    @property
    def name(self) -> str:
        """How a person is told of it: "pay", "pay on iPhone 15", "home (canary)"."""
        return self.probe + (f" on {self.device}" if self.device else "") + (f" ({self.cohort})" if self.cohort else "")


def read(signal: Signal, run: Run) -> float | None:
    """What `signal` has to say about `run`: 1.0 or 0.0 for the outcome, s for a duration, None when it says nothing."""
    if signal.test == "bernoulli":
        return 1.0 if run.ok else 0.0
    if not run.ok or run.overloaded:
        return None
    return run.values.get(signal.value) if signal.value else run.seconds


def is_main_time(signal: Signal) -> bool:
    """True for the one duration of a target that a PASS needs; its phases and web vitals only add evidence."""
    return signal.test == "latency" and not signal.value


def same_spacing(one: float, other: float) -> bool:
    """True when runs of these spacings (s) may be compared.

    Sampling faster than the baseline multiplies false alarms, since near runs are alike (detection.md 8.1).
    """
    return abs(one - other) <= SPACING_TOLERANCE * max(one, other)
