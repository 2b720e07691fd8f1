"""What "before" means for one target: frozen when an update starts, stored with it, enough to replay the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any, Self
from zlib import crc32

from monitor.judge import calibrate, drift
from monitor.judge.calibrate import Power
from monitor.judge.evidence import TESTS, Fit, learn, usable
from monitor.judge.latency import LatencyFit, variance_inflation
from monitor.judge.lines import span
from monitor.judge.season import Season
from monitor.judge.sequential import SHORTEST_HORIZON
from monitor.judge.signals import Margin, Reading, Run, Subject, expand, is_main, read, same_spacing
from monitor.judge.wander import wander
from probes.sample import Signal

METHOD = 2                        # of the judge; a baseline that another one froze cannot be gone on with
NEWEST = 400                      # valid runs that are "before"; more only dilutes what the shop is like today
WORTH_READING = NEWEST + calibrate.PLACEBO_PAST   # newest runs worth handing to `freeze`: the older are placebos
# What is rare is known from more of the past: failures, error signatures, silences, and for how long durations stay alike.
LONGER = {"bernoulli": 2 * NEWEST, "latency": WORTH_READING, "novelty": WORTH_READING, "silence": WORTH_READING}
_FORGETFUL = 1.5                  # variance inflation up to which runs an interval apart are as good as independent
_TELLING = 1.03                   # wander that is said
_NAMED = ("probe", "device", "cohort", "kind", "critical", "control", "beside")    # of the subject, stored as they are


@dataclass(frozen=True, slots=True)
class Before:
    """One signal's past: its fit and the power of its test, or a note why it cannot be judged."""

    signal: Signal
    fit: Fit | None
    power: Power = ()
    note: str = ""
    season: Season | None = None
    interval: float = 0.0         # s; when it is judged by the runs of the regular grid alone
    at_updates: float = 0.0       # evidence that harmless updates usually bring, as a multiple of what a lone signal needs

    def read(self, run: Run) -> Reading | None:
        """What the signal says about `run`; a duration without what is usual at that time of day."""
        return None if self.interval and not run.regular else _read(self.signal, self.season, run)

    def level(self, at: float) -> float:
        """By which factor durations are longer than on average at this time of day (Unix s)."""
        return self.season.level(at) if self.season else 1.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """One target's past at one spacing."""

    subject: Subject
    spacing: float                # s between its runs
    runs: int
    begun: float                  # Unix s, of its first and last run; 0 when there is none
    ended: float
    placebos: int                 # update-free windows that calibrated it
    horizon: int                  # samples over which the power was measured
    signals: tuple[Before, ...]

    def samples(self, row: Before, seconds: float) -> int:
        """How many readings of a signal there are in this time."""
        spacing = row.interval or self.spacing
        return ceil(seconds / spacing) if spacing > 0 else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        rows = [
            {"signal": asdict(row.signal), "fit": row.fit and row.fit.to_dict(), "power": row.power, "note": row.note,
             "season": row.season and row.season.to_dict(), "interval": row.interval,
             "at_updates": row.at_updates}
            for row in self.signals
        ]
        subject = {name: getattr(self.subject, name) for name in _NAMED}
        subject["margin"] = self.subject.margin.model_dump()
        return {
            "method": METHOD, "subject": subject, "spacing": self.spacing, "runs": self.runs, "begun": self.begun, "ended": self.ended,
            "placebos": self.placebos, "horizon": self.horizon, "signals": rows,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. One that another version of the judge froze has nothing left to judge by, and says so."""
        known = stored.get("method") == METHOD
        rows = tuple(_before(row) if known else _foreign(row) for row in stored["signals"])
        given = {**stored["subject"], "margin": Margin(**stored["subject"]["margin"])}
        subject = Subject(**given, signals=tuple(row.signal for row in rows))
        kept = {name: value for name, value in stored.items() if name != "method"}
        return cls(**{**kept, "subject": subject, "signals": rows})


def _before(stored: Mapping[str, Any]) -> Before:
    signal = Signal(**stored["signal"])
    fit = TESTS[signal.test].from_dict(stored["fit"]) if stored["fit"] else None
    season = Season.from_dict(stored["season"]) if stored["season"] else None
    return Before(signal, fit, tuple(tuple(row) for row in stored["power"]), stored["note"], season, stored["interval"], stored["at_updates"])


def _foreign(stored: Mapping[str, Any]) -> Before:
    return Before(Signal(**stored["signal"]), None, note="frozen by another version of Tillwatch: start the update again")


def freeze(
    subject: Subject,
    runs: Sequence[Run],
    *,
    spacing: float,
    excluded: Sequence[tuple[float, float]] = (),
    horizon: int = calibrate.POWER_HORIZON,
    history: Sequence[Run] = (),
    regular: Sequence[Run] = (),
    interval: float = 0.0,
    peaks: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Baseline:
    """The past of a target, from its newest NEWEST valid runs at this spacing (s).

    When these are bursts, `regular` are its runs at the `interval` (s) that it keeps all day: durations that are still alike
    after an interval are judged by those, as bursts are too short to know such a memory, and closer runs say nothing new.
    `excluded` are times (Unix s, from and to) of incidents and earlier updates. Hand in up to WORTH_READING runs in any
    order: the older ones calibrate. `history` are runs at any spacing from the last weeks, thinned: they show what is
    usual at which time of day. `peaks` are the highest evidence that each signal, by its name, showed after the last
    updates that did no harm: what happens at every update raises what an alarm needs.

    `horizon` is the number of samples within which a PASS is hoped for; what needs more is called too noisy; 0 measures
    no power at all, and then there is no PASS. Takes about 0.2 s, more for a longer horizon, so run it in a thread.
    """
    valid = sorted((run for run in runs if _is_valid(run, spacing, excluded)), key=lambda run: run.at)
    slow = sorted((run for run in regular if _is_valid(run, interval, excluded)), key=lambda run: run.at)
    subject = replace(subject, signals=expand(subject.signals, valid))
    newest = valid[-NEWEST:]
    pasts = [_Past(signal, valid, _season(signal, history), spacing, slow, interval).where_judged() for signal in subject.signals]
    pasts = [past.wandering(history) for past in pasts]
    return Baseline(
        subject=subject,
        spacing=spacing,
        runs=len(newest),
        begun=newest[0].at if newest else 0.0,
        ended=newest[-1].at if newest else 0.0,
        placebos=len(_cuts(valid)),
        horizon=horizon,
        signals=tuple(
            _learn(subject, past, ceil(horizon * spacing / past.spacing) if past.spacing else 0, calibrate.usual(peaks.get(past.signal.name, ())))
            for past in pasts),
    )


def _is_valid(run: Run, spacing: float, excluded: Sequence[tuple[float, float]]) -> bool:
    return isfinite(run.at) and same_spacing(run.spacing, spacing) and not any(begin <= run.at <= end for begin, end in excluded)


def _cuts(valid: Sequence[Run]) -> list[int]:
    """Where the placebo windows begin."""
    return [cut for cut in calibrate.placebo_cuts(len(valid)) if _is_placebo(valid, cut)]


def _is_placebo(valid: Sequence[Run], cut: int) -> bool:
    return not calibrate.has_outage([run.ok for run in valid[cut:cut + SHORTEST_HORIZON]])


def _read(signal: Signal, season: Season | None, run: Run) -> Reading | None:
    reading = read(signal, run)
    return reading if season is None or reading is None else reading / season.level(run.at)


def _season(signal: Signal, history: Sequence[Run]) -> Season | None:
    if signal.test != "latency" or not history:
        return None
    told = [(run.at, reading) for run in history if (reading := read(signal, run)) is not None]
    return Season.of([at for at, _ in told], [reading for _, reading in told])


@dataclass(frozen=True, slots=True)
class _Past:
    """What the valid runs, oldest first, say about one signal."""

    signal: Signal
    runs: Sequence[Run]
    season: Season | None
    spacing: float
    regular: Sequence[Run] = ()            # at the `interval` (s), when `runs` are bursts
    interval: float = 0.0                  # of what is judged by the regular grid alone
    pace: float = 1.0
    wander: float = 1.0                    # factor by which durations may change without an update

    def where_judged(self) -> Self:
        """At the regular pace when durations are still alike after an interval, else at this one."""
        slow = replace(self, runs=self.regular, spacing=self.interval)
        if self.signal.test == "latency" and len(self.regular) >= NEWEST and variance_inflation(slow.until(len(self.regular))) > _FORGETFUL:
            return slow
        return replace(self, interval=0.0, pace=self.spacing / self.interval if self.regular else 1.0)

    def wandering(self, history: Sequence[Run]) -> Self:
        """With how far the durations of these weeks wander by themselves."""
        newest = self.runs[-NEWEST:]
        if self.signal.test != "latency" or not newest:
            return self
        told = [(run.at, reading) for run in history if (reading := _read(self.signal, self.season, run)) is not None]
        return replace(self, wander=wander(told, newest[-1].at - newest[0].at))

    def fit(self, cut: int) -> Fit | None:
        """The test fitted to what came before `cut`; None when that is too little."""
        fit = learn(self.signal, self.until(cut), self.pace)
        return replace(fit, tolerance=fit.tolerance * self.wander) if isinstance(fit, LatencyFit) else fit

    def until(self, cut: int) -> list[Reading]:
        """What the newest of the runs before `cut` say, as far as they say something."""
        told = (_read(self.signal, self.season, run) for run in self.runs[max(cut - LONGER.get(self.signal.test, NEWEST), 0):cut])
        return [reading for reading in told if reading is not None]

    def reach(self, cut: int) -> float:
        """How near to an alarm the placebo window at `cut` came, the test fitted to what came before it; 0 when it could not be."""
        fit = self.fit(cut)
        window = self.runs[cut:cut + SHORTEST_HORIZON]
        return calibrate.placebo_reach(fit, [_read(self.signal, self.season, run) for run in window]) if fit else 0.0

    def wanders(self) -> str:
        """That the durations of the target wander, in words; "" when they hardly do."""
        return f"durations wander by {self.wander - 1:.0%} without an update: an alarm asks for more" if self.wander > _TELLING else ""

    def shifted(self) -> str:
        """That the target became another while this was its past, in words; "" when it did not."""
        newest = self.runs[-NEWEST:]
        told = [(run.at, reading) for run in newest if (reading := _read(self.signal, self.season, run)) is not None]
        readings = [reading for _, reading in told]
        if self.signal.test != "latency" or (by := drift.shift(readings)) is None:
            return ""
        begin = drift.stable_from(readings)
        if not begin:
            return f"durations shifted to {by:.2g} times what they were within the past"
        at = datetime.fromtimestamp(told[begin][0], UTC)
        return f"durations shifted to {by:.2g} times what they were, about {at:%Y-%m-%d %H:%M} UTC: only the {len(told) - begin} since are the past"


def _learn(subject: Subject, past: _Past, horizon: int, at_updates: float) -> Before:
    signal = past.signal
    readings = past.until(len(past.runs))
    runs, least = min(len(past.runs), NEWEST), TESTS[signal.test].least
    if runs < least:
        return Before(signal, None, note=f"baseline too short: {runs} of {least} runs, enough in about {span((least - runs) * past.spacing)}")
    fit = past.fit(len(past.runs))
    if fit is None:
        return Before(signal, None, note=f"baseline too short: only {len(readings)} of its {runs} runs have a number")
    stretch = calibrate.stretch([past.reach(cut) for cut in _cuts(past.runs)])
    fit = fit.stretched(min(max(stretch, at_updates), calibrate.LARGEST_STRETCH))
    note = "; ".join(filter(None, (past.shifted(), past.wanders())))
    if not is_main(signal):
        return Before(signal, fit, note=note, season=past.season, interval=past.interval, at_updates=at_updates)
    margin = subject.margin.success if signal.test == "bernoulli" else subject.margin.p50
    seed = crc32("/".join((*subject.key, signal.name)).encode())
    power = calibrate.power(fit, usable(signal, readings), margin, horizon, seed)
    return Before(signal, fit, power, note, past.season, past.interval, at_updates)
