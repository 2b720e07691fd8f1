"""Replays updates that never were over a shop's own past: would the judge have paged, would it have passed, does it find harm?

Each placebo update begins at some moment of the history. The runs before it are frozen as for a real one, those after it
are judged run by run in two segments (open for ROLLOUT, then finished), until there is a verdict; and once more with each
kind of harm put into them. Pure and seeded: the same history gives the same answer.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from random import Random
from typing import TypeVar
from zlib import crc32

from monitor.health import Health, Rule, State, judge
from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.ruling import Ruling
from monitor.judge.season import thinned
from monitor.judge.signals import Run, Subject, TargetKey
from monitor.judge.verdict import LONGEST_OBSERVATION, Case, Judging
from probes.sample import Outcome, Sample

ENOUGH_PAST = 90            # runs before an update, from which on durations are judged
ROLLOUT = 600.0             # s for which a placebo update is open before it is finished
LONGEST_HOLE = 0.2          # of an update's length: with a longer one nobody was watching
LEAST_RUNS = 0.5            # of those that an update's length should have
SHARE = 0.5                 # of the false-alarm budget, for either of the two segments: as monitor/under_watch.py gives it

T = TypeVar("T")
Span = tuple[float, float]  # Unix s, from and to


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One target's runs at one spacing (s), in the order of time; `excluded` are times that are no "before"."""

    subject: Subject
    spacing: float
    runs: Sequence[Run]
    rule: Rule = field(default_factory=Rule)
    excluded: Sequence[Span] = ()

    @classmethod
    def of(cls, subject: Subject, spacing: float, runs: Sequence[Run], rule: Rule | None = None, excluded: Sequence[Span] = ()) -> "History":
        """Runs in any order; those without a time are dropped. What fails for long enough is an outage, and no "before"."""
        timed = sorted((run for run in runs if math.isfinite(run.at) and run.at > 0), key=lambda run: run.at)
        rule = rule or Rule()
        spans = [(outage.since, outage.until) for outage in outages(subject, rule, timed)]
        return cls(subject, spacing, timed, rule, (*excluded, *spans))

    def wanted(self, plan: "Plan") -> int:
        """Runs that a placebo update takes, with the past that it needs."""
        return ENOUGH_PAST + math.ceil(plan.length / self.spacing)

    def hopeless(self, plan: "Plan") -> bool:
        """No placebo update fits into it, not even one with gaps."""
        return len(self.runs) < ENOUGH_PAST + LEAST_RUNS * (self.wanted(plan) - ENOUGH_PAST)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part of a placebo update lasts, in s.

    `stretch` is 1 for a shop that is probed as usual; a history with a run a day is told as if it were one every 30 s.
    `most_observed` bounds the runs over which the power is measured.
    """

    settings: Judging = field(default_factory=Judging)
    stretch: float = 1.0
    most_observed: int = 960

    @property
    def look_back(self) -> float:
        return self.settings.baseline * self.stretch

    @property
    def warm_up(self) -> float:
        return self.settings.warm_up * self.stretch

    @property
    def observe(self) -> float:
        return (LONGEST_OBSERVATION if self.settings.observe == "auto" else self.settings.observe) * self.stretch

    @property
    def rollout(self) -> float:
        return ROLLOUT * self.stretch

    @property
    def length(self) -> float:
        """From the start of the update to the end of its observation."""
        return self.rollout + self.warm_up + self.observe


# Harm


@dataclass(frozen=True, slots=True)
class Harm:
    """What an update may do to the critical probes, from its start on."""

    name: str
    words: str
    change: Callable[[Run, Random], Run]


def _slower(by: float) -> Callable[[Run, Random], Run]:
    def change(run: Run, _random: Random) -> Run:
        return replace(run, seconds=run.seconds * by, values={name: value * by for name, value in run.values.items()})
    return change


def _failing(share: float) -> Callable[[Run, Random], Run]:
    def change(run: Run, random: Random) -> Run:
        return replace(run, ok=run.ok and random.random() >= share)
    return change


def _slow_tail(run: Run, random: Random) -> Run:
    return _slower(5.0)(run, random) if random.random() < 0.1 else run


HARMS = (
    Harm("x1.2", "20 % slower", _slower(1.2)),
    Harm("x1.5", "half as slow again", _slower(1.5)),
    Harm("x2", "twice as slow", _slower(2.0)),
    Harm("x3", "three times as slow", _slower(3.0)),
    Harm("fail5", "5 % of the runs fail", _failing(0.05)),
    Harm("fail20", "20 % of the runs fail", _failing(0.2)),
    Harm("outage", "down", _failing(1.0)),
    Harm("tail", "one run in ten takes five times as long", _slow_tail),
)


# Outages: the rule that pages without an update


@dataclass(frozen=True, slots=True)
class Down:
    """One outage as the health rule tells it: when the failing began, when it was told, when it was over (Unix s)."""

    since: float
    told: float
    until: float


def outages(subject: Subject, rule: Rule, runs: Sequence[Run]) -> Iterator[Down]:
    """What the health rule would have told of these runs; an outage that has no end lasts for ever."""
    health, open_ = Health(), None
    for run in runs:
        health, flips = judge(health, rule, _sample(subject, run))
        for flip in flips:
            if flip.new is State.DOWN and flip.old is State.UP:
                open_ = Down(flip.since, flip.at, math.inf)
            elif flip.new is State.UP and open_:
                yield replace(open_, until=flip.at)
                open_ = None
    if open_:
        yield open_


def _sample(subject: Subject, run: Run) -> Sample:
    outcome = Outcome.OK if run.ok else Outcome.FAILED
    return Sample(probe=subject.probe, device=subject.device, cohort=subject.cohort, outcome=outcome, started=run.at, ended=_end(run))


def _end(run: Run) -> float:
    return run.at + run.seconds if math.isfinite(run.seconds) and run.seconds >= 0 else run.at


# Where placebo updates fit


@dataclass(frozen=True, slots=True)
class Slice:
    """What one target shows around a placebo update; `horizon` as `freeze` wants it."""

    subject: Subject
    spacing: float
    rule: Rule
    past: tuple[Run, ...]
    after: tuple[Run, ...]
    horizon: int
    harmed: bool
    history: tuple[Run, ...] = ()      # of the whole look-back, thinned: shows what is usual at which time of day


@dataclass(frozen=True, slots=True)
class Window:
    """One placebo update: when it starts (Unix s), and all that is needed to replay it."""

    shop: str
    at: float
    slices: tuple[Slice, ...]
    disturbed: bool            # an outage, an incident or a regression is known of this time


@dataclass(frozen=True, slots=True)
class Placed:
    """All placebo updates that fit into a history, one after the other, and how many do not, by reason."""

    windows: tuple[Window, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)    # "short": too little past; "gap": nobody was watching; "update": a real one


def required(histories: Sequence[History]) -> list[History]:
    """The targets that a PASS asks for, and that harm is put into: the critical ones, all that are judged when none is."""
    judged = [history for history in histories if not history.subject.control]
    return [history for history in judged if history.subject.critical] or judged


def place(shop: str, histories: Sequence[History], plan: Plan, updates: Sequence[Span] = ()) -> Placed:
    """Placebo updates back to back, so that none shares a run with another; `updates` are the times of real ones."""
    needed = required(histories)
    known = [history for history in needed if len(history.runs) >= ENOUGH_PAST]
    if not known:
        return Placed()
    shop_ = _Shop(shop, histories, needed, plan)
    windows, skipped = [], Counter[str]()
    at = min(history.runs[ENOUGH_PAST - 1].at for history in known) + 1e-3
    end = max(history.runs[-1].at + history.spacing for history in known)
    while at + plan.length <= end:
        why = "update" if any(_overlap(span, at, at + plan.length) for span in updates) else shop_.unfit(at)
        if why:
            skipped[why] += 1
        else:
            windows.append(shop_.window(at))
        at += plan.length
    return Placed(tuple(windows), dict(skipped))


def spread(windows: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly over the whole history."""
    if len(windows) <= most:
        return list(windows)
    return [windows[int((place + 0.5) * len(windows) / most)] for place in range(most)]


class _Shop:
    """The histories of one shop, ready to be cut anywhere."""

    def __init__(self, name: str, histories: Sequence[History], needed: Sequence[History], plan: Plan) -> None:
        self.name, self.plan, self._histories, self._needed = name, plan, histories, needed
        self._pasts = [[run for run in h.runs if not any(begin <= run.at <= end for begin, end in h.excluded)] for h in histories]
        self._thin = [thinned(past, plan.look_back) for past in self._pasts]

    def _cut(self, number: int, at: float) -> Slice:
        history, plan = self._histories[number], self.plan
        past = tuple(_between(self._pasts[number], at - plan.look_back, at)[-WORTH_READING:])
        needed = history in self._needed
        measured = needed or not any(h.subject.critical for h in self._histories)
        horizon = min(math.ceil(plan.observe / history.spacing), plan.most_observed) if measured else 0
        after = tuple(_between(history.runs, at, at + plan.length))
        return Slice(history.subject, history.spacing, history.rule, past, after, horizon, needed)

    def unfit(self, at: float) -> str:
        """Why no update can be placed here; "" when one can."""
        cuts = [self._cut(number, at) for number in self._present(at) if self._histories[number] in self._needed]
        if any(_has_hole(cut, at, at + self.plan.length) for cut in cuts):
            return "gap"
        return "short" if not cuts or any(len(cut.past) < ENOUGH_PAST for cut in cuts) else ""

    def window(self, at: float) -> Window:
        end = at + self.plan.length
        begun = at - self.plan.look_back
        cuts = tuple(replace(self._cut(n, at), history=tuple(_between(self._thin[n], begun, at))) for n in self._present(at))
        return Window(self.name, at, cuts, any(self._disturbs(history, at, end) for history in self._histories))

    def _present(self, at: float) -> list[int]:
        """What did not exist yet, or no longer, is in nobody's way."""
        return [n for n, h in enumerate(self._histories) if (runs := h.runs) and runs[0].at < at + self.plan.length and runs[-1].at >= at]

    def _disturbs(self, history: History, at: float, end: float) -> bool:
        """What has long been down, and is not asked for, disturbs nobody."""
        if history in self._needed:
            return any(_overlap(span, at, end) for span in history.excluded)
        return any(at <= begin < end for begin, _ in history.excluded)


def _between(runs: Sequence[Run], begin: float, end: float) -> Sequence[Run]:
    """Of runs in the order of time those that started in [begin, end)."""
    return runs[bisect_left(runs, begin, key=attrgetter("at")):bisect_left(runs, end, key=attrgetter("at"))]


def _has_hole(cut: Slice, begin: float, end: float) -> bool:
    if len(cut.after) < LEAST_RUNS * math.floor((end - begin) / cut.spacing):
        return True
    times = [begin, *(run.at for run in cut.after), end]
    return max(later - earlier for earlier, later in pairwise(times)) > max(LONGEST_HOLE * (end - begin), 2 * cut.spacing)


def _overlap(span: Span, begin: float, end: float) -> bool:
    return span[0] < end and span[1] >= begin


# The replay


@dataclass(frozen=True, slots=True)
class End:
    """How a placebo update ended, and how long that took (from its start, and from its finish, in s; runs of the probe that decided)."""

    verdict: str
    reason: str
    sentence: str
    seconds: float
    after_finish: float
    runs: int
    guilty: tuple[str, ...] = ()
    told_down: float | None = None     # s until the health rule would have paged an outage; None when it would not


@dataclass(frozen=True, slots=True)
class Replayed:
    """One placebo update: without harm, and with each kind of it (by name; none in a disturbed window)."""

    shop: str
    at: float
    disturbed: bool
    past: int                          # runs of the required target that had least
    harmless: End
    harmed: Mapping[str, End]


def replay(window: Window, plan: Plan) -> Replayed:
    """Freezes once, then judges the same runs without harm and with each. Takes about 0.1 s a target."""
    baselines = [freeze(cut.subject, cut.past, spacing=cut.spacing, horizon=cut.horizon, history=cut.history) for cut in window.slices]
    harmed = {} if window.disturbed else {harm.name: _judged(window, baselines, plan, harm) for harm in HARMS}
    past = min(baseline.runs for baseline, cut in zip(baselines, window.slices, strict=True) if cut.harmed)
    return Replayed(window.shop, window.at, window.disturbed, past, _judged(window, baselines, plan, None), harmed)


def _judged(window: Window, baselines: Sequence[Baseline], plan: Plan, harm: Harm | None) -> End:
    after = {cut.subject.key: _after(window, cut, harm) for cut in window.slices}
    runs = sorted(((key, run) for key, own in after.items() for run in own), key=lambda pair: pair[1].at)
    finish, end, counts = window.at + plan.rollout, window.at + plan.length, Counter[TargetKey]()
    ruling, decided = None, end
    last = runs[0][0] if runs else TargetKey("", "", "")
    for begin, until, final in ((window.at, finish, False), (finish, end, True)):
        case = Case(baselines, plan.settings, share=SHARE, watch=plan.observe + plan.warm_up)
        segment = [pair for pair in runs if begin <= pair[1].at < until]
        ruling, decided, last = _watched(case, segment, begin + plan.warm_up, counts, final=final) or (None, end, last)
        if ruling:
            break
    ruling = ruling or case.ruling(final=True, over=True)
    guilty = tuple(dict.fromkeys(f"{row.probe}: {row.signal}" for row in ruling.signals if row.guilty))
    return End(ruling.verdict, ruling.reason, ruling.sentence, decided - window.at, max(decided - finish, 0.0), counts[last], guilty,
               _told_down(window, after))


def _after(window: Window, cut: Slice, harm: Harm | None) -> Sequence[Run]:
    if harm is None or not cut.harmed:
        return cut.after
    seed = crc32("/".join((window.shop, *cut.subject.key, harm.name, f"{window.at:.3f}")).encode())
    random = Random(seed)  # noqa: S311 - a simulation that has to be repeatable
    return [harm.change(run, random) for run in cut.after]


def _watched(
    case: Case, runs: Sequence[tuple[TargetKey, Run]], warm_until: float, counts: Counter[TargetKey], *, final: bool,
) -> tuple[Ruling, float, TargetKey] | None:
    """The ruling that ends the update, when it fell, and by a run of which target; None when this segment brings none.

    A ruling takes a hundred times as long as a run: one is asked for when there is an alarm, or when a pass may have come.
    """
    own, due = Counter[TargetKey](), dict[TargetKey, float]()
    for key, run in runs:
        case.add(key, run, warm=run.at < warm_until)
        counts[key] += 1
        own[key] += 1
        if case.alarm is None and not (final and all(own[of] >= count for of, count in due.items())):
            continue
        ruling = case.ruling(final=final)
        if ruling.verdict != "watching":
            return ruling, _end(run), key
        due = _due(ruling, own)
    return None


def _due(ruling: Ruling, own: Counter[TargetKey]) -> dict[TargetKey, float]:
    """How many runs each target that keeps a PASS away must have before it is worth asking again."""
    due: dict[TargetKey, float] = {}
    for row in ruling.signals:
        if row.required and not row.ruled_clean:
            key = TargetKey(row.probe, row.device, row.cohort)
            lacking = math.inf if row.needed is None else max(row.needed - row.n_after, 1)
            due[key] = max(due.get(key, 0.0), own[key] + lacking)
    return due


def _told_down(window: Window, after: Mapping[TargetKey, Sequence[Run]]) -> float | None:
    """When the health rule would page first, in s from the start of the update."""
    told = [
        outage.told for cut in window.slices if cut.rule.urgency == "page" and not cut.subject.control
        for outage in outages(cut.subject, cut.rule, [*cut.past[-cut.rule.of:], *after[cut.subject.key]]) if outage.told >= window.at
    ]
    return min(told) - window.at if told else None
