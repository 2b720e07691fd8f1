"""One signal's line in a ruling: before, after, the change with its bounds, evidence, threshold, what it lacks."""

import math
from dataclasses import dataclass

from monitor.judge import calibrate
from monitor.judge.baseline import Before
from monitor.judge.effect import percentiles
from monitor.judge.evidence import Watched
from monitor.judge.latency import LatencyFit
from monitor.judge.signals import Subject
from monitor.judge.success import SuccessFit

_LN10 = math.log(10)


@dataclass(frozen=True, slots=True)
class SignalRuling:
    """What a ruling says of one signal. Evidence and threshold are log10; the signal alone alarms where they meet."""

    probe: str
    device: str
    cohort: str
    signal: str
    test: str
    critical: bool
    required: bool                     # a PASS needs it ruled clean
    control: bool
    n_before: int
    n_after: int
    before: float | None               # share of failed runs, or the median in s
    after: float | None
    before_p95: float | None           # s; None for success
    after_p95: float | None
    failed_before: int | None          # runs; None for durations
    failed_after: int | None
    ratio_lower: float | None          # after / before (success: of the shares that succeed), 95 % bounds
    ratio: float | None
    ratio_upper: float | None
    evidence: float | None
    threshold: float | None
    guilty: bool
    ruled_clean: bool
    power: float                       # probability that harm of the size of the margin had alarmed by now
    needed: int | None                 # judged runs after which that is 80 %; None when it cannot be reached
    note: str                          # why it is not judged, or not fully

    @property
    def is_success(self) -> bool:
        """True for the outcome of runs, False for a duration."""
        return self.test == "bernoulli"


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What `Case` knows of one signal; `watched` is None when its past does not let it be judged."""

    subject: Subject
    before: Before
    watched: Watched | None
    required: bool
    guilty: bool
    strange: int                       # runs at a spacing that the baseline does not have
    horizon_handicap: float = 0.0      # nats that a watch longer than the power's replays costs

    @property
    def in_doubt(self) -> bool:
        """True while its newest reading is bad or its bet half way to an alarm: no moment to call it clean."""
        if self.watched is None:
            return False
        return self.watched.evidence.unsettled() or math.log(self.watched.bet_now) >= self.watched.need() / 2


def explain(facts: SignalFacts) -> SignalRuling:
    """The line of one signal."""
    subject, watched = facts.subject, facts.watched
    power, needed = _power(facts)
    seen = watched.evidence.seen if watched else 0
    lower, ratio, upper = (watched.change() if watched else None) or (None, None, None)
    past, now = _past(facts), _now(watched)
    return SignalRuling(
        probe=subject.probe, device=subject.device, cohort=subject.cohort, signal=facts.before.signal.name,
        test=facts.before.signal.test, critical=subject.critical, required=facts.required, control=subject.control,
        n_before=facts.before.fit.count if facts.before.fit else 0,
        n_after=watched.taken if watched else 0,
        before=past[0], after=now[0], before_p95=past[1], after_p95=now[1], failed_before=past[2], failed_after=now[2],
        ratio_lower=lower, ratio=ratio, ratio_upper=upper,
        evidence=(watched.need() + watched.alone()) / _LN10 if watched else None,
        threshold=watched.need() / _LN10 if watched else None,
        guilty=facts.guilty,
        ruled_clean=not (facts.guilty or facts.in_doubt) and needed is not None and seen >= needed,
        power=power, needed=needed, note=_note(facts),
    )


def _power(facts: SignalFacts) -> tuple[float, int | None]:
    if facts.watched is None:
        return 0.0, None
    handicap = max(facts.watched.handicap, facts.watched.bet_handicap) + facts.horizon_handicap
    measured, seen = facts.before.power, facts.watched.evidence.seen
    return calibrate.power_at(measured, handicap, seen), _needed(facts, handicap)


def _needed(facts: SignalFacts, handicap: float) -> int | None:
    fit = facts.before.fit
    return calibrate.samples_needed(facts.before.power, handicap, fit.optimism) if fit else None


_Numbers = tuple[float | None, float | None, int | None]       # share or p50, p95, failures


def _past(facts: SignalFacts) -> _Numbers:
    fit = facts.before.fit
    if isinstance(fit, SuccessFit):
        return fit.failures / fit.count, None, fit.failures
    if isinstance(fit, LatencyFit):
        return fit.p50, fit.p95, None
    return None, None, None


def _now(watched: Watched | None) -> _Numbers:
    if watched is None or not watched.taken:
        return None, None, None
    if isinstance(watched.fit, SuccessFit):
        return watched.failed / watched.taken, None, watched.failed
    return *percentiles(watched.newest()), None


def _note(facts: SignalFacts) -> str:
    notes = ["control"] if facts.subject.control else []
    if facts.before.note:
        notes.append(facts.before.note)
    if facts.watched and facts.watched.warm:
        notes.append(f"{facts.watched.warm} runs in the warm-up not judged")
    if facts.watched and facts.watched.overloaded:
        notes.append(f"{facts.watched.overloaded} runs on an overloaded host not judged")
    if facts.strange:
        notes.append(f"{facts.strange} runs at another spacing not judged")
    return "; ".join(notes)
