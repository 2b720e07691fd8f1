"""One verdict over all signals of a shop: evidence is combined, an alarm is a crossing of one threshold.

The threshold belongs to the update, whatever the number of its signals: the weighted mean of bets is a bet again under
any dependence, and the tests with a fixed budget share it in the same proportions (detection.md 3 and 8.2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from monitor.judge import cohort
from monitor.judge.baseline import Baseline, Before
from monitor.judge.evidence import Watched
from monitor.judge.explain import SignalFacts
from monitor.judge.ruling import Facts, Ruling, rule
from monitor.judge.sequential import LONE_WEIGHT, NEVER, NOMINAL_RATE, SHORTEST_HORIZON, THRESHOLD, longer_watch
from monitor.judge.signals import MOST_NAMES, Margin, Run, TargetKey, appeared, is_main, same_spacing, stopped
from probes.fields import Duration, Table

LONGEST_OBSERVATION = 7200.0      # s; what observe = "auto" comes to at most
LONGEST_HORIZON = 3840            # samples; a longer watch is judged as one of this length
FAMILIES = {"critical success": 0.5, "critical latency": 0.25, "log": 0.125, "other": 0.125}
FALSE_DISCOVERIES = 0.10          # of the signals named guilty, the share that may be innocent (e-BH)


class Judging(Table):
    """The keys of [update] which the judge goes by."""

    baseline: Duration = Field(default=14 * 86400.0, description="look-back limit")
    warm_up: Duration = Field(default=120.0, description="latency right after a phase starts is measured, not judged")
    observe: Duration | Literal["auto"] = Field(default="auto", description="longest observation after finish; auto: until a pass, at most 2h")
    false_alarm_rate: float = Field(default=0.01, gt=0, le=0.5, description="false regressions per update, over all signals together")
    margin: Margin = Field(default=Margin(), description="what counts as worse")


@dataclass(frozen=True, slots=True)
class Alarm:
    """The moment in which the evidence crossed the threshold."""

    at: float                              # Unix s, start of the run that did it
    guilty: frozenset[int]                 # places of the signals named in Case


class Sum:
    """The sum of numbers that change one at a time: sums of blocks are kept, so a change costs the root of their number.

    A running total would not do: what a large number leaves behind in it, once it has become small, is larger than the rest.
    """

    __slots__ = ("_blocks", "_numbers", "_width")

    def __init__(self, numbers: list[float]) -> None:
        self._numbers, self._width = numbers, max(1, math.isqrt(len(numbers)))
        self._blocks = [sum(numbers[begin:begin + self._width]) for begin in range(0, len(numbers), self._width)]

    def put(self, place: int, number: float) -> None:
        """Change one of them."""
        self._numbers[place] = number
        block = place // self._width
        self._blocks[block] = sum(self._numbers[block * self._width:(block + 1) * self._width])

    def total(self) -> float:
        """All of them together."""
        return sum(self._blocks)


class Track:
    """One target at one spacing: its baseline, its watched signals, and the runs it was given."""

    __slots__ = ("appeared", "baseline", "begun", "ended", "good", "is_control", "rows", "runs", "strange", "watched", "worse")

    def __init__(self, baseline: Baseline, watch: float, *, is_control: bool) -> None:
        self.baseline, self.is_control = baseline, is_control
        self.rows = [
            (row, Watched(baseline.subject, row.signal, row.fit, _horizon(baseline, row, watch)) if row.fit else None)
            for row in baseline.signals
        ]
        self.watched = [watched for _, watched in self.rows if watched]
        self.runs = self.good = self.strange = 0
        self.appeared: set[str] = set()    # names of steps or counts that the past does not have
        self.begun = self.ended = 0.0
        self.worse = False                 # a control probe in alarm that has not calmed down

    def take(self, run: Run, warm: bool) -> None:
        """Hands one run to the signals that it says something about."""
        self.begun, self.ended = (self.begun or run.at), run.at
        self.runs += 1
        self.good += run.ok
        if len(self.appeared) < MOST_NAMES:
            self.appeared |= appeared(self.baseline.subject.signals, run)
        for before, watched in self.rows:
            if watched is None:
                continue
            reading = before.read(run)
            if reading is None:
                watched.overloaded += run.ok and run.overloaded
            elif warm and watched.fit.needs_warm_up:
                watched.warm += 1
            else:
                watched.add(reading)


class Case:
    """All signals of one update in one segment (start, a phase, or after finish), fed run by run in the order of time.

    `share` is this segment's part of the update's false-alarm budget, `watch` (s) how long it is expected to last (by
    default as long as `observe` allows): harm that begins late stays within reach until then. Control probes have no
    weight: while one of them is worse too, nothing is blamed on the update. A target may have several baselines of
    different spacing; a run is judged by the one it fits. In the `phase` that has the name of a cohort only that cohort has
    the update: its control cohort then is a control, and its targets have to stand out beside it.
    """

    def __init__(
        self, baselines: Sequence[Baseline], settings: Judging, *, share: float = 1.0, watch: float | None = None, phase: str = "",
    ) -> None:
        if watch is None:
            watch = LONGEST_OBSERVATION if settings.observe == "auto" else settings.observe
        self._lacking = math.log(NOMINAL_RATE / (settings.false_alarm_rate * share))
        self.threshold = THRESHOLD + self._lacking
        self.alarm: Alarm | None = None
        self._tracks: dict[TargetKey, list[Track]] = {}
        pairs = cohort.pairs(baselines, phase)
        for baseline in cohort.with_a_past(baselines, pairs):
            self._tracks.setdefault(baseline.subject.key, []).append(
                Track(baseline, watch, is_control=baseline.subject.control or baseline.subject.key in pairs.values()))
        every = [track for tracks in self._tracks.values() for track in tracks]
        self._controls = [track for track in every if track.is_control]
        self._judged = [track for track in every if not track.is_control]
        for canary, control in pairs.items():
            _beside(self._tracks[canary], self._tracks[control])
        self._all_critical = not any(track.baseline.subject.critical for track in self._judged)
        self._signals = [watched for track in self._judged for watched in track.watched]
        self._places = {watched: place for place, watched in enumerate(self._signals)}
        self._share_out()

    def add(self, target_key: tuple[str, str, str], run: Run, *, warm: bool) -> None:
        """Takes one run in; `warm`: within the warm-up, its time is not judged. An unknown target is passed over."""
        if not math.isfinite(run.at):
            return
        for track in self._tracks.get(TargetKey(*target_key), ()):
            if not same_spacing(run.spacing, track.baseline.spacing):
                track.strange += 1
                continue
            track.take(run, warm)
            if track.is_control:
                self._hear_control(track)
            else:
                self._weigh(track, run.at)

    def score(self) -> float:
        """Log evidence of harm (nats) of the strongest kind; an alarm when it is `threshold` or more."""
        return self.threshold + self._past()

    def ruling(self, *, final: bool, over: bool = False) -> Ruling:
        """The verdict now. `final`: this segment may end in PASS; `over`: no more runs will come."""
        return rule(self._facts(), final=final, over=over)

    # Weights and budgets

    def _share_out(self) -> None:
        """Weights by family, inside a family by target; budgets of the counting tests in the same proportions."""
        families: dict[str, dict[Watched, float]] = {}
        for watched in self._signals:
            families.setdefault(self._family(watched), {})[watched] = self._part(watched)
        for name, weight in _used(families).items():
            parts = families[name]
            for watched, part in parts.items():
                watched.weight = weight * part / sum(parts.values())
        for watched in self._signals:
            alike = sum(other.weight for other in self._signals if other.signal.test == watched.signal.test)
            watched.handicap = self._lacking + math.log(alike / watched.weight)
            watched.bet_handicap = self._lacking + math.log(LONE_WEIGHT / watched.weight)
        self._worth = Sum([watched.weight for watched in self._signals])
        for track in self._controls:
            for watched in track.watched:
                watched.handicap = watched.bet_handicap = self._lacking + math.log(len(self._controls))

    def _family(self, watched: Watched) -> str:
        if watched.signal.family == "log":
            return "log"
        if not (watched.subject.critical or self._all_critical):
            return "other"
        return "critical success" if watched.signal.test == "bernoulli" else "critical latency"

    @staticmethod
    def _part(watched: Watched) -> float:
        """The duration of a target counts as much as all of its phases and vitals together."""
        if is_main(watched.signal):
            return 1.0
        return 1 / sum(1 for other in watched.subject.signals if not is_main(other))

    # Evidence

    def _weigh(self, track: Track, at: float) -> None:
        """Looks for an alarm after a run of `track`; only its own signals can have crossed with it."""
        for watched in track.watched:
            self._worth.put(self._places[watched], watched.weight * watched.bet_now)
        if self.alarm is None and (self._bets_past() >= 0 or any(watched.counted() >= 0 for watched in track.watched)):
            self.alarm = Alarm(at, self._guilty())

    def _bets_past(self) -> float:
        """Nats by which the mean of bets is past the threshold, without what has no practical size when it matters."""
        past = math.log(self._worth.total() or 1.0) - self.threshold
        if past >= 0:
            past = math.log(sum(watched.weight * watched.gated() for watched in self._signals)) - self.threshold
        return past

    def _past(self) -> float:
        return max(self._bets_past(), max((watched.counted() for watched in self._signals), default=NEVER))

    def _guilty(self) -> frozenset[int]:
        """The signals to name: e-BH over their evidence, and the strongest in any case."""
        if not self._signals:
            return frozenset()
        nats = [watched.lone_evidence() for watched in self._signals]
        order = sorted(range(len(nats)), key=lambda place: -nats[place])
        named = [
            rank for rank, place in enumerate(order, 1)
            if nats[place] >= math.log(len(nats) / (FALSE_DISCOVERIES * rank))
        ]
        strongest = max(range(len(nats)), key=lambda place: self._signals[place].alone())
        return frozenset(order[:max(named, default=0)]) | {strongest}

    def _hear_control(self, track: Track) -> None:
        """A control probe in alarm excuses the update until it is calm again; then all evidence begins anew."""
        if not track.worse:
            track.worse = any(watched.alone() >= 0 for watched in track.watched)
        elif all(watched.evidence.calm() for watched in track.watched if watched.evidence.seen):
            track.worse = False
            for watched in (*track.watched, *self._signals):
                watched.restart()
            self._worth = Sum([watched.weight for watched in self._signals])
            self.alarm = None

    # Facts for the ruling

    def _facts(self) -> Facts:
        guilty = self.alarm.guilty | self._guilty() if self.alarm else frozenset()
        rows = [
            self._signal_facts(track, before, watched, watched is not None and self._places.get(watched, -1) in guilty)
            for track in (*self._judged, *self._controls)
            for before, watched in track.rows
        ]
        return Facts(
            alarmed_at=self.alarm.at if self.alarm else None,
            controls_worse=tuple(track.baseline.subject.name for track in self._controls if track.worse),
            runs=tuple((track.baseline.subject, track.runs) for track in self._judged),
            seconds=_span(self._judged),
            signals=tuple(rows),
        )

    def _signal_facts(self, track: Track, before: Before, watched: Watched | None, guilty: bool) -> SignalFacts:
        subject = track.baseline.subject
        required = (subject.critical or self._all_critical) and not track.is_control and is_main(before.signal)
        replayed = track.baseline.samples(before, track.baseline.horizon * track.baseline.spacing)
        longer = longer_watch(watched.horizon, replayed) if watched else 0.0
        count = before.fit.count if before.fit else 0
        taken = watched.taken + watched.warm if watched else 0
        return SignalFacts(
            subject=subject, before=before, watched=watched, required=required, guilty=guilty, control=track.is_control,
            strange=track.strange, horizon_handicap=longer, spacing=before.interval or track.baseline.spacing, level=before.level(track.ended),
            stopped=stopped(count, track.baseline.runs, taken, track.good),
            appeared=tuple(sorted(track.appeared)) if before.signal.test == "bernoulli" and is_main(before.signal) else ())


def _beside(canary: Iterable[Track], control: Iterable[Track]) -> None:
    """Each signal of the canary has to stand out beside the same one of its control cohort, where that is watched."""
    there = {watched.signal: watched for track in control for watched in track.watched}
    for watched in (watched for track in canary for watched in track.watched):
        if other := there.get(watched.signal):
            watched.stands_out = partial(cohort.stands_out, watched, other)


def _horizon(baseline: Baseline, row: Before, watch: float) -> int:
    return min(max(baseline.samples(row, watch), SHORTEST_HORIZON), LONGEST_HORIZON)


def _used(families: Iterable[str]) -> dict[str, float]:
    """Weights of the families in use: the success of critical probes keeps its half, the others share theirs."""
    used = {name: weight for name, weight in FAMILIES.items() if name in families}
    kept = used.pop("critical success", 0.0)
    left, total = (1 - kept if used else 0.0), sum(used.values())
    shared = {name: left * weight / total for name, weight in used.items()}
    return shared | ({"critical success": kept if used else 1.0} if kept else {})


def _span(tracks: Iterable[Track]) -> float:
    """Seconds from the first run to the end of the last one's turn."""
    ran = [track for track in tracks if track.runs]
    if not ran:
        return 0.0
    return max(track.ended + track.baseline.spacing for track in ran) - min(track.begun for track in ran)
