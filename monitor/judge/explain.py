"""One signal's line in a ruling: before, after, the change with its bounds, evidence, threshold, what it lacks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from monitor.judge import calibrate, lines
from monitor.judge.baseline import Before
from monitor.judge.counts import CountFit
from monitor.judge.effect import percentiles
from monitor.judge.evidence import Watched
from monitor.judge.latency import LatencyFit
from monitor.judge.novelty import NoveltyFit
from monitor.judge.ratios import RatioFit
from monitor.judge.signals import Subject
from monitor.judge.silence import SilenceEvidence, SilenceFit
from monitor.judge.success import SuccessFit
from monitor.parts import worst_first

_LN10 = math.log(10)
WHYS = {
    "transient": "it looked worse for a while, and is as before again",
    "too_small": "it is different, by less than matters",
    "seen_before": "it was like this before, without an update",
    "every_update": "it was like this after earlier updates, which did no harm",
    "control_alike": "the control cohort, which does not have the update, is the same",
    "stopped": "it stopped reporting with the update: nothing was seen of it",
    "too_little_data": "there are too few runs to say anything of it",
    "not_significant": "it looks worse, but a shop that has not changed looks like this too often",
}
_FEW = 5                          # readings that say nothing yet
_LEANS = 0.2                      # of what an alarm needs, below which there is nothing to explain
_MOST_NAMED = 5
_MOST_NEWS, _LONGEST = 3, 200     # new signatures that are kept with a ruling, and their characters


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
    before: float | None               # share of failed runs, median in s, mean of events a run, share of tries, new
    after: float | None                # signatures, or the longest silence in runs
    before_p95: float | None           # s, or events a run; else None
    after_p95: float | None
    failed_before: int | None          # runs; None for all but success
    failed_after: int | None
    ratio_lower: float | None          # after / before (success: of the shares that succeed), 95 % bounds; None where it
    ratio: float | None                # has no meaning
    ratio_upper: float | None
    evidence: float | None
    threshold: float | None
    guilty: bool
    ruled_clean: bool
    power: float                       # probability that harm of the size of the margin had alarmed by now
    needed: int | None                 # judged runs after which that is 80 %; None when it cannot be reached
    note: str                          # why it is not judged, or not fully
    before_text: str = ""              # both sides in words, where the numbers need them: "3 a minute", "4.1 %"; "" for
    after_text: str = ""               # success and durations
    peak: float = 0.0                  # highest evidence so far, as a multiple of what a lone signal needs
    why: str = ""                      # why it is not flagged although something was seen: a key of WHYS
    news: tuple[tuple[str, float], ...] = ()      # of novelty: new signatures with their events, those first that tell most

    @property
    def is_success(self) -> bool:
        """True for the outcome of runs or of a step."""
        return self.test == "bernoulli"


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What `Case` knows of one signal; `watched` is None when its past does not let it be judged."""

    subject: Subject
    before: Before
    watched: Watched | None
    required: bool
    guilty: bool
    control: bool                      # a control probe, or the control cohort of this phase
    strange: int                       # runs at a spacing that the baseline does not have
    horizon_handicap: float            # nats that a watch longer than the power's replays costs
    spacing: float                     # s between the runs
    level: float                       # of durations at this time of day
    stopped: bool                      # nearly all runs before had it, and none since
    appeared: tuple[str, ...]          # names of steps and counts that the past of the target does not have

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
    past, now = _past(facts), _now(watched, facts.level)
    return SignalRuling(
        probe=subject.probe, device=subject.device, cohort=subject.cohort, signal=facts.before.signal.name,
        test=facts.before.signal.test, critical=subject.critical, required=facts.required, control=facts.control,
        n_before=facts.before.fit.count if facts.before.fit else 0,
        n_after=watched.taken if watched else 0,
        before=past[0], after=now[0], before_p95=past[1], after_p95=now[1], failed_before=past[2], failed_after=now[2],
        ratio_lower=lower, ratio=ratio, ratio_upper=upper,
        evidence=(watched.need() + watched.alone()) / _LN10 if watched else None,
        threshold=watched.need() / _LN10 if watched else None,
        guilty=facts.guilty,
        ruled_clean=not (facts.guilty or facts.in_doubt or facts.stopped) and needed is not None and seen >= needed,
        power=power, needed=needed, note=_note(facts),
        before_text=lines.before(facts.before.signal, facts.before.fit, facts.spacing),
        after_text=lines.after(watched, facts.spacing),
        peak=watched.peak if watched else 0.0, why=_why(facts), news=_news(watched),
    )


def _news(watched: Watched | None) -> tuple[tuple[str, float], ...]:
    """Also when they are no alarm: they may tell why something else is one."""
    if watched is None or not watched.found:
        return ()
    return tuple((name[:_LONGEST], watched.found[name]) for name in worst_first(watched.found)[:_MOST_NEWS])


def _why(facts: SignalFacts) -> str:
    """Why a signal that looks worse, or did, is not flagged: the first of WHYS that holds; "" when nothing was seen."""
    if facts.guilty:
        return ""
    if facts.watched is None:
        return "too_little_data"
    return next((name for name, holds in _signs(facts, facts.watched) if holds), "")


def _signs(facts: SignalFacts, watched: Watched) -> Iterator[tuple[str, bool]]:
    """(key of WHYS, whether it holds), the most telling first."""
    yield "stopped", facts.stopped
    yield "transient", watched.peak >= 1 and watched.evidence.calm()
    yield "control_alike", watched.peak >= 1 and not watched.stands_out()
    yield "too_small", watched.peak >= 1 and watched.gated() < watched.bet_now
    held_back = watched.fit.stretch > 1 and watched.peak * watched.fit.stretch >= 1
    yield "every_update", held_back and facts.before.at_updates >= watched.fit.stretch
    yield "seen_before", held_back
    change = watched.change()
    worse = change is None or (change[1] < 1 if facts.before.signal.test == "bernoulli" else change[1] > 1)
    leans = watched.peak >= _LEANS and worse
    yield "too_little_data", leans and watched.taken < _FEW
    yield "not_significant", leans


def _power(facts: SignalFacts) -> tuple[float, int | None]:
    if facts.watched is None:
        return 0.0, None
    handicap = max(facts.watched.handicap, facts.watched.bet_handicap) + facts.horizon_handicap
    measured, seen = facts.before.power, facts.watched.evidence.seen
    return calibrate.power_at(measured, handicap, seen), _needed(facts, handicap)


def _needed(facts: SignalFacts, handicap: float) -> int | None:
    fit = facts.before.fit
    return calibrate.samples_needed(facts.before.power, handicap, fit.optimism) if fit else None


_Numbers = tuple[float | None, float | None, int | None]       # share, median, mean or number; p95; failures


def _past(facts: SignalFacts) -> _Numbers:
    fit = facts.before.fit
    if isinstance(fit, SuccessFit):
        return fit.failures / fit.count, None, fit.failures
    if isinstance(fit, LatencyFit):
        return fit.p50 * facts.level, fit.p95 * facts.level, None
    if isinstance(fit, CountFit):
        return fit.mean, fit.p95, None
    if isinstance(fit, RatioFit):
        return 1 - fit.share if facts.before.signal.harm == "down" else fit.share, None, None
    if isinstance(fit, NoveltyFit):
        return float(fit.new), None, None
    if isinstance(fit, SilenceFit):
        return float(fit.longest), None, None
    return None, None, None


def _now(watched: Watched | None, level: float) -> _Numbers:
    if watched is None or not watched.taken:
        return None, None, None
    if isinstance(watched.fit, SuccessFit):
        return watched.failed / watched.taken, None, watched.failed
    if isinstance(watched.fit, LatencyFit):
        middle, tail = percentiles(watched.newest())
        return middle * level, tail * level, None
    if isinstance(watched.fit, CountFit):
        return watched.mean(), percentiles(watched.newest())[1], None
    if isinstance(watched.fit, RatioFit):
        return watched.share(), None, None
    if isinstance(watched.evidence, SilenceEvidence):
        return float(watched.evidence.longest), None, None
    return float(len(watched.found)), None, None


def _note(facts: SignalFacts) -> str:
    notes = ["control"] if facts.control else []
    if facts.before.note:
        notes.append(facts.before.note)
    if facts.watched and facts.watched.warm:
        notes.append(f"{facts.watched.warm} runs in the warm-up not judged")
    if facts.watched and facts.watched.overloaded:
        notes.append(f"{facts.watched.overloaded} runs on an overloaded host not judged")
    if facts.stopped:
        notes.append("stopped reporting with the update")
    if facts.appeared:
        notes.append(f"new since the update: {', '.join(facts.appeared[:_MOST_NAMED])}")
    if facts.strange:
        notes.append(f"{facts.strange} runs at another spacing not judged")
    return "; ".join(notes)
