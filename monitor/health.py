"""Is a probe's target up, and can we measure it at all? (health, sample) -> (health, flips). Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from probes.fields import Duration, Table
from probes.sample import Outcome, Sample

Urgency = Literal["page", "ticket"]
Target = tuple[str, str, str]      # probe, device, cohort


FLAPPING_SECONDS = 1800.0          # outages this close together are one that comes and goes
QUIET_SECONDS, MOST_QUIET_SECONDS = 120.0, 600.0
MOST_DOWNS = 16                    # more change nothing: the quiet time is at its longest long before


class Rule(Table):
    """When failing runs become an outage, and what that outage is worth."""

    of: int = Field(default=5, ge=1, le=1000, description="... of the newest runs failed ...")
    failures: int = Field(default=3, ge=1, validate_default=True, description="an outage opens when this many ...")
    confirm: Duration = Field(default=60.0, description="... and the failing has lasted this long")
    urgency: Urgency = Field(default="page", description="what an outage of this probe is worth: page | ticket")

    @field_validator("failures")
    @classmethod
    def _possible(cls, failures: int, info: ValidationInfo) -> int:
        of = info.data.get("of", failures)
        if failures > of:
            raise ValueError(f"{failures} of {of} runs can never fail: failures must not exceed of")
        return failures


class State(StrEnum):
    UP = "up"
    DOWN = "down"
    MEASURED = "measured"      # the end of BROKEN
    BROKEN = "broken"          # we cannot measure: our fault, never the shop's


@dataclass(frozen=True, slots=True)
class Health:
    """What the newest runs of one target say. `window` holds the newest `of` measured runs, True = failed."""

    down: bool = False
    window: tuple[bool, ...] = ()
    failing_since: float | None = None     # first failed run of this stretch, Unix s
    fine: int = 0                          # ok runs in a row
    broken: bool = False
    unmeasured: tuple[bool, ...] = ()      # the newest `of` runs, True = broken
    unmeasured_since: float | None = None
    failed_at: float | None = None         # end of the newest failed run of this stretch
    downs: tuple[float, ...] = ()          # when it went down, within the half hour before it did so last
    held: bool = False                     # well again, and kept down only because it comes and goes

    @property
    def unsettled(self) -> bool:
        """The newest runs disagree with the state, or the state is bad: worth looking again soon."""
        return self.down or self.failing_since is not None

    @property
    def steady(self) -> bool:
        """Another ok run changes nothing."""
        return not (self.down or self.failing_since is not None or self.unmeasured_since is not None or True in self.window)


@dataclass(frozen=True, slots=True)
class Flip:
    """A change of state, with what is needed to tell it: the stored thing that incidents are made from."""

    probe: str
    device: str
    cohort: str
    old: State
    new: State
    reason: str
    at: float
    since: float                # when the failing, or the recovery, began
    failed: int = 0             # of the newest `of` runs
    of: int = 0
    evidence: str = ""

    @property
    def target(self) -> Target:
        return self.probe, self.device, self.cohort


def judge(health: Health, rule: Rule, sample: Sample) -> tuple[Health, tuple[Flip, ...]]:
    """The health after `sample`, and the flips if it changed the state.

    A stretch of failing ends, and an outage recovers, after `of - failures + 1` ok runs in a row: so many that
    `failures` of `of` cannot be reached without a new failure. Broken runs say nothing about the shop.
    An outage that comes again and again recovers only after a quiet time too, see `quiet`.
    """
    if sample.outcome is Outcome.OK and health.steady and len(health.window) == rule.of:
        return health, ()                      # the common case, on the hot path
    health, flips = _unmeasured(health, rule, sample, broken=sample.outcome is Outcome.BROKEN)
    if sample.outcome is Outcome.BROKEN:
        return health, flips
    failed = sample.outcome is Outcome.FAILED
    health = _counted(health, rule, sample, failed=failed)
    if failed and not health.down and _confirmed(health, rule, sample):
        downs = (*(at for at in health.downs if sample.ended - at < FLAPPING_SECONDS), sample.ended)[-MOST_DOWNS:]
        return replace(health, down=True, downs=downs), (*flips, _flip(health, sample, State.UP, State.DOWN))
    if failed and health.held and _stays(health, rule, sample):
        return replace(health, held=False), (*flips, _flip(health, sample, State.DOWN, State.DOWN))
    if health.fine < _enough(rule):
        return health, flips
    if not _calm(health, sample.ended):
        return replace(health, held=True, failing_since=None), flips
    flips = (*flips, _flip(health, sample, State.DOWN, State.UP)) if health.down else flips
    return replace(health, down=False, failing_since=None, failed_at=None, held=False), flips


def quiet(downs: tuple[float, ...]) -> float:
    """Seconds without a failed run that an outage needs to end: none for the first within half an hour, 2 min for the second,
    twice as long for each further one, at most 10 min. So what comes and goes is one incident and not twenty.
    """
    return min(QUIET_SECONDS * 2.0 ** (len(downs) - 2), MOST_QUIET_SECONDS) if len(downs) > 1 else 0.0


def _stays(health: Health, rule: Rule, sample: Sample) -> bool:
    """What came and went is down for good: it fails for longer than any quiet time."""
    return _confirmed(health, rule, sample) and sample.ended - (health.failing_since or sample.started) >= MOST_QUIET_SECONDS


def _calm(health: Health, now: float) -> bool:
    return not health.down or health.failed_at is None or now - health.failed_at >= quiet(health.downs)


def _enough(rule: Rule) -> int:
    return rule.of - rule.failures + 1


def _confirmed(health: Health, rule: Rule, sample: Sample) -> bool:
    lasted = sample.ended - (health.failing_since or sample.started)
    return sum(health.window) >= rule.failures and lasted >= rule.confirm


def _counted(health: Health, rule: Rule, sample: Sample, *, failed: bool) -> Health:
    window = (*health.window, failed)[-rule.of:]
    if not failed:
        return replace(health, window=window, fine=min(health.fine + 1, rule.of))
    since = health.failing_since if health.failing_since is not None else sample.started
    return replace(health, window=window, fine=0, failing_since=since, failed_at=sample.ended)


def _unmeasured(health: Health, rule: Rule, sample: Sample, *, broken: bool) -> tuple[Health, tuple[Flip, ...]]:
    if not broken and health.unmeasured_since is None:
        return health, ()
    window = (*health.unmeasured, broken)[-rule.of:]
    since = health.unmeasured_since if health.unmeasured_since is not None else sample.started
    health = replace(health, unmeasured=window, unmeasured_since=since)
    if broken and not health.broken and sum(window) >= rule.failures and sample.ended - since >= rule.confirm:
        return replace(health, broken=True), (_flip(health, sample, State.MEASURED, State.BROKEN),)
    if any(window[-_enough(rule):]):
        return health, ()
    flips = (_flip(health, sample, State.BROKEN, State.MEASURED),) if health.broken else ()
    return replace(health, broken=False, unmeasured=(), unmeasured_since=None), flips


def _flip(health: Health, sample: Sample, old: State, new: State) -> Flip:
    since = {State.DOWN: health.failing_since, State.BROKEN: health.unmeasured_since}.get(new)
    window = health.unmeasured if new is State.BROKEN else health.window
    return Flip(
        probe=sample.probe, device=sample.device, cohort=sample.cohort, old=old, new=new, reason=sample.reason,
        at=sample.ended, since=sample.started if since is None else since, failed=sum(window), of=len(window),
        evidence=sample.evidence,
    )
