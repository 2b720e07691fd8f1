"""What "before" means for one target: frozen when an update starts, stored with it, enough to replay the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self
from zlib import crc32

from monitor.judge import calibrate
from monitor.judge.calibrate import Power
from monitor.judge.evidence import TESTS, Fit
from monitor.judge.sequential import SHORTEST_HORIZON
from monitor.judge.signals import Margin, Run, Subject, is_main_time, read, same_spacing
from probes.sample import Signal

NEWEST = 400                      # valid runs that are "before"; more only dilutes what the shop is like today
WORTH_READING = NEWEST + calibrate.PLACEBO_PAST   # newest runs worth handing to `freeze`: the older are placebos
_NAMED = ("probe", "device", "cohort", "kind", "critical", "control")    # of the subject, stored as they are


@dataclass(frozen=True, slots=True)
class Before:
    """One signal's past: its fit and the power of its test, or a note why it cannot be judged."""

    signal: Signal
    fit: Fit | None
    power: Power = ()
    note: str = ""


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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        rows = [
            {"signal": asdict(row.signal), "fit": row.fit and row.fit.to_dict(), "power": row.power, "note": row.note}
            for row in self.signals
        ]
        subject = {name: getattr(self.subject, name) for name in _NAMED}
        subject["margin"] = self.subject.margin.model_dump()
        return {
            "subject": subject, "spacing": self.spacing, "runs": self.runs, "begun": self.begun, "ended": self.ended,
            "placebos": self.placebos, "horizon": self.horizon, "signals": rows,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        rows = tuple(_before(row) for row in stored["signals"])
        given = {**stored["subject"], "margin": Margin(**stored["subject"]["margin"])}
        subject = Subject(**given, signals=tuple(row.signal for row in rows))
        return cls(**{**stored, "subject": subject, "signals": rows})


def _before(stored: Mapping[str, Any]) -> Before:
    signal = Signal(**stored["signal"])
    fit = TESTS[signal.test].from_dict(stored["fit"]) if stored["fit"] else None
    return Before(signal, fit, tuple(tuple(row) for row in stored["power"]), stored["note"])


def freeze(
    subject: Subject,
    runs: Sequence[Run],
    *,
    spacing: float,
    excluded: Sequence[tuple[float, float]] = (),
    horizon: int = calibrate.POWER_HORIZON,
) -> Baseline:
    """The past of a target, from its newest NEWEST valid runs at this spacing (s).

    `excluded` are times (Unix s, from and to) of incidents and earlier updates. Hand in up to WORTH_READING runs in any
    order: the older ones calibrate. `horizon` is the number of samples within which a PASS is hoped for; what needs
    more is called too noisy; 0 measures no power at all, and then there is no PASS. Takes about 0.1 s, more for a longer
    horizon, so run it in a thread.
    """
    valid = sorted((run for run in runs if _is_valid(run, spacing, excluded)), key=lambda run: run.at)
    newest = valid[-NEWEST:]
    cuts = [cut for cut in calibrate.placebo_cuts(len(valid)) if _is_placebo(valid, cut)]
    placebos = _placebos(subject, valid, cuts)
    return Baseline(
        subject=subject,
        spacing=spacing,
        runs=len(newest),
        begun=newest[0].at if newest else 0.0,
        ended=newest[-1].at if newest else 0.0,
        placebos=len(cuts),
        horizon=horizon,
        signals=tuple(_learn(subject, signal, valid, reaches, horizon) for signal, reaches in placebos),
    )


def _is_valid(run: Run, spacing: float, excluded: Sequence[tuple[float, float]]) -> bool:
    return same_spacing(run.spacing, spacing) and not any(begin <= run.at <= end for begin, end in excluded)


def _is_placebo(valid: Sequence[Run], cut: int) -> bool:
    return not calibrate.has_outage([run.ok for run in valid[cut:cut + SHORTEST_HORIZON]])


def _readings(signal: Signal, runs: Sequence[Run]) -> list[float]:
    """What the newest NEWEST of `runs` say about `signal`, as far as they say something."""
    found = (read(signal, run) for run in runs[-NEWEST:])
    return [reading for reading in found if reading is not None]


def _learn(subject: Subject, signal: Signal, valid: Sequence[Run], reaches: Sequence[float], horizon: int) -> Before:
    test = TESTS[signal.test]
    past = _readings(signal, valid)
    runs = min(len(valid), NEWEST)
    if runs < test.least:
        return Before(signal, None, note=f"baseline too short: {runs} of {test.least} runs")
    fit: Fit | None = test.of(past)
    if fit is None:
        return Before(signal, None, note=f"baseline too short: only {len(past)} of its {runs} runs have a duration")
    fit = fit.stretched(calibrate.stretch(reaches))
    if not _is_main(signal):
        return Before(signal, fit)
    margin = subject.margin.success if signal.test == "bernoulli" else subject.margin.p50
    seed = crc32("/".join((*subject.key, signal.name)).encode())
    return Before(signal, fit, calibrate.power(fit, past, margin, horizon, seed))


def _is_main(signal: Signal) -> bool:
    """True for what a PASS may need: the outcome and the whole duration."""
    return signal.test == "bernoulli" or is_main_time(signal)


def _placebos(subject: Subject, valid: Sequence[Run], cuts: Sequence[int]) -> list[tuple[Signal, list[float]]]:
    """How near to an alarm each signal came in the placebo windows.

    The main signals of a target answer for each other, as they alarm together; a phase answers for itself besides, so
    that one wild phase does not blunt the rest.
    """
    own = {signal: [_reach(signal, valid, cut) for cut in cuts] for signal in subject.signals}
    main = [max(window) for window in zip(*(own[signal] for signal in own if _is_main(signal)), strict=True)]
    return [(signal, list(map(max, reaches, main or reaches))) for signal, reaches in own.items()]


def _reach(signal: Signal, valid: Sequence[Run], cut: int) -> float:
    """What the placebo window at `cut` reached, the test fitted to what came before it; 0 when it could not be."""
    fit: Fit | None = TESTS[signal.test].of(_readings(signal, valid[max(cut - NEWEST, 0):cut]))
    window = valid[cut:cut + SHORTEST_HORIZON]
    return calibrate.placebo_reach(fit, [read(signal, run) for run in window]) if fit else 0.0
