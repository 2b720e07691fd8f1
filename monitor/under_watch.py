"""One update in memory while it is watched: what the judge is given, and whether the shop is back to normal.

All of it can be built again from the store.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from monitor.before import run_at
from monitor.health import Target
from monitor.judge.baseline import Baseline, Before
from monitor.judge.recovery import back_to_normal, harm_is_gone
from monitor.judge.ruling import Ruling
from monitor.judge.signals import Run
from monitor.judge.verdict import Alarm, Case
from monitor.store import Store, samples
from monitor.updates import Status, Update, UpdateSettings
from probes.sample import Sample

RECENT = 400                # newest runs per target kept for "back to normal"
PAGE = 1_000                # samples handed to the judge in one go
LOOK_BACK = 3600.0          # s of runs after a regression that a restart looks at, for "back to normal"
CHANGED = "what it measures was changed while the update was watched, or it was taken out of the configuration"


@dataclass
class UnderWatch:
    """An update, its frozen past, and the case that is made of the runs since `since` (Unix s, start of the present segment)."""

    update: Update
    baselines: dict[Target, Baseline]
    settings: UpdateSettings
    case: Case = field(init=False)
    since: float = field(init=False)
    recent: dict[Target, deque[Run]] = field(default_factory=dict)
    ruling: Ruling | None = None
    alarm: Alarm | None = None                       # of the case, at the newest ruling
    ruled_at: float = -math.inf
    ruling_took: float = 0.0
    told_at: float = 0.0
    stale: bool = False                              # the case must be built anew from the store

    def __post_init__(self) -> None:
        self.begin_segment()

    def begin_segment(self) -> None:
        """Judge apart what comes from the start of the newest segment on."""
        self.since = self.update.segments[-1]
        self.case = _case(self.update, self.baselines, self.settings)

    def move(self, update: Update) -> None:
        """The update has taken a step: what is judged follows."""
        earlier, self.update = self.update, update
        if update.rolled_back != earlier.rolled_back:
            self.recent.clear()
        if len(update.segments) > len(earlier.segments):
            self.begin_segment()

    def leave_out(self, probes: Iterable[str]) -> list[str]:
        """Judge these probes no more, and say so in the ruling: they measure something else now. Those that were judged so far."""
        names = {target[0] for target in self.baselines} & set(probes)
        for target, baseline in self.baselines.items():
            if target[0] in names:
                unfit = tuple(Before(row.signal, None, note=CHANGED) for row in baseline.signals)
                self.baselines[target] = replace(baseline, signals=unfit)
                self.recent.pop(target, None)
        self.stale = self.stale or bool(names)
        return sorted(names)

    def feed(self, sample: Sample) -> None:
        """Hand one run to the judge, if it is about this update."""
        target = sample.probe, sample.device, sample.cohort
        baseline = self.baselines.get(target)
        begin = max(self.since, self.update.downtime_until)
        if baseline is None or sample.started < begin:
            return
        run = run_at(sample, baseline.spacing, self.update.parts)
        if run is None:
            return
        waits = self.update.regressed or self.update.status is Status.RECOVERING      # only then is it asked whether all is well again
        if waits and sample.started >= (self.update.rolled_back or 0.0):
            self.recent.setdefault(target, deque(maxlen=RECENT)).append(run)
        if self.update.live and self.update.status is not Status.RECOVERING:
            self.case.add(target, run, warm=run.at < begin + self.settings.warm_up)

    async def replay(self, store: Store, until: int, now: float, progress: Callable[[], None] = lambda: None) -> None:
        """Build the case from the runs of the present segment that are stored already, up to row `until`.

        In pages, between which probes can start; `progress` is told of each.
        """
        self.begin_segment()
        self.recent.clear()
        since, self.stale = self.since, False
        if self.update.regressed:
            since = max(since, self.update.verdict_at or since, now - LOOK_BACK)
        cursor = await store.read(lambda c: samples.first_id(c, since)) - 1
        while cursor < until and (page := await store.read(lambda c, after=cursor: samples.after(c, after, PAGE))):  # type: ignore[misc]
            for stored in page:
                if stored.id <= until and stored.sample.started >= since:
                    self.feed(stored.sample)
            cursor = page[-1].id
            progress()

    def normal(self, known: Mapping[Target, object], now: float) -> str:
        """Why all that was guilty (everything required, if nothing was) is back to normal; "" when it is not. `known` are today's targets."""
        update, whys = self.update, []
        if update.rolled_back is None and now - (update.verdict_at or now) < 2.5 * self.settings.warm_up:
            return ""                                # by itself: it must have lasted
        for target in self.guilty(known):
            runs = list(self.recent.get(target, ()))
            normal, why = back_to_normal(self.baselines[target], runs)
            harms = [s for s in update.ruling.get("signals", ()) if s["guilty"] and (s["probe"], s["device"], s["cohort"]) == target]
            if not normal or not all(harm_is_gone(self.baselines[target], runs, harm) for harm in harms):
                return ""
            whys.append(why)
        return "; ".join(dict.fromkeys(whys)) or "there is no before to compare with"

    def guilty(self, known: Mapping[Target, object]) -> set[Target]:
        """The targets that must be back to normal."""
        fit = {t for t, b in self.baselines.items() if t in known and any(row.fit for row in b.signals)}
        named = named_guilty(self.update) & fit
        judged = {t for t in fit if not self.baselines[t].subject.control}
        return named or {t for t in judged if self.baselines[t].subject.critical} or judged


def named_guilty(update: Update) -> set[Target]:
    """The targets that the ruling blames."""
    return {(s["probe"], s["device"], s["cohort"]) for s in update.ruling.get("signals", ()) if s["guilty"]}


def _case(update: Update, baselines: Mapping[Target, Baseline], settings: UpdateSettings) -> Case:
    """Segment i of an update has half of the false-alarm budget that is left, so that all of them keep within it."""
    share = 0.5 ** len(update.segments) if update.status is Status.OPEN else 0.5 ** (len(update.segments) - 1)
    length = settings.observe_limit + settings.warm_up
    return Case(list(baselines.values()), settings, share=share, watch=length, phase=update.phase if update.status is Status.OPEN else "")
