"""The answer: a verdict, the rule by which it fell, and the evidence, in plain words first and in numbers after."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal

from monitor.judge import words
from monitor.judge.explain import SignalFacts, SignalRuling, explain
from monitor.judge.signals import Subject

REASONS = {
    "failures": "runs fail more often than before",
    "slower": "the usual duration is longer than before",
    "slow_tail": "the slowest runs take longer than before",
    "more_events": "something is counted more often than before",
    "fewer_events": "something is counted less often than before",
    "more_per_try": "a larger share of all tries than before",
    "fewer_per_try": "a smaller share of all tries than before",
    "new_errors": "errors that were never seen before, and stay",
    "silent": "a log that always spoke has fallen silent",
    "no_harm_seen": "nothing alarmed, and harm of the size of the margins would have been seen with 80 % probability",
    "not_final": "nothing alarmed, but this segment cannot end in PASS",
    "too_few_runs": "harm of the size of the margins could still hide: more runs are needed",
    "too_noisy": "a required signal varies so much that harm of the size of its margin cannot be ruled out in time",
    "baseline_too_short": "a required signal has too few runs from before the update",
    "stopped": "a required signal stopped reporting with the update",
    "in_doubt": "a required signal leans towards an alarm",
    "control_worse": "control probes, which the update cannot touch, got worse as well",
    "nothing_judged": "there is no signal to judge",
}
Verdict = Literal["watching", "pass", "regression", "inconclusive"]
# What keeps a PASS away, the hardest to mend first.
_GAPS = ("nothing_judged", "baseline_too_short", "stopped", "too_noisy", "in_doubt", "too_few_runs")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a ruling rests on."""

    alarmed_at: float | None
    controls_worse: tuple[str, ...]
    runs: tuple[tuple[Subject, int], ...]
    seconds: float                         # from the first run to now
    signals: tuple[SignalFacts, ...]


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and all that explains it."""

    verdict: Verdict
    reason: str                            # a key of REASONS
    sentence: str                          # for a shop owner
    missing: tuple[str, ...]               # for a PASS
    signals: tuple[SignalRuling, ...]
    alarmed_at: float | None = None        # Unix s of the run that crossed the threshold

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. Not by `asdict`: that copies deeply, 50 us a signal."""
        signals = [dict(zip(_ROW, _values(row), strict=True)) for row in self.signals]
        return {name: getattr(self, name) for name in _OWN} | {"missing": list(self.missing), "signals": signals}


_OWN = tuple(f.name for f in fields(Ruling))
_ROW = tuple(f.name for f in fields(SignalRuling))
_values = attrgetter(*_ROW)


def rule(facts: Facts, *, final: bool, over: bool) -> Ruling:
    """The verdict that the facts ask for."""
    rows = tuple(explain(signal) for signal in facts.signals)
    gaps = _gaps(facts, rows)
    missing = tuple(text for _, text in gaps)
    if facts.alarmed_at is not None and not facts.controls_worse:
        return Ruling("regression", words.reason(facts.signals, rows), words.harm(facts.signals, rows), missing, rows, facts.alarmed_at)
    done = words.done(facts.runs, facts.seconds)
    if facts.alarmed_at is not None:
        missing = (f"the control probes ({', '.join(facts.controls_worse)}) to be normal again",)
        return _open("control_worse", words.excused(facts.signals, rows, facts.controls_worse), missing, rows, over)
    if not gaps and final:
        return Ruling("pass", "no_harm_seen", f"No harm seen in {done}.", (), rows)
    reason = next((name for name in _GAPS if any(gap == name for gap, _ in gaps)), "not_final")
    return _open(reason, words.undecided(done, missing, over), missing, rows, over)


def _open(reason: str, sentence: str, missing: tuple[str, ...], rows: tuple[SignalRuling, ...], over: bool) -> Ruling:
    return Ruling("inconclusive" if over else "watching", reason, sentence, missing, rows)


def _gaps(facts: Facts, rows: Sequence[SignalRuling]) -> list[tuple[str, str]]:
    """(reason, words) of every required signal that is not ruled clean, at one of the spacings at least."""
    pairs = [(signal, row) for signal, row in zip(facts.signals, rows, strict=True) if row.required]
    if not pairs:
        return [("nothing_judged", "a probe to judge by")]
    targets: dict[tuple[str, str, str, str], list[tuple[SignalFacts, SignalRuling]]] = {}
    for signal, row in pairs:
        targets.setdefault((row.probe, row.device, row.cohort, row.signal), []).append((signal, row))
    return [
        _gap(*max(alike, key=lambda pair: pair[1].n_after))
        for alike in targets.values() if not any(row.ruled_clean for _, row in alike)
    ]


def _gap(signal: SignalFacts, row: SignalRuling) -> tuple[str, str]:
    name = f"{signal.subject.name}: {row.signal}"
    if signal.watched is None:
        return "baseline_too_short", f"{signal.subject.name}: {row.note} ({row.signal} is not judged)"
    if signal.stopped:
        return "stopped", f"{name} stopped reporting with the update"
    if row.needed is None:
        return "too_noisy", f"{name} varies too much to rule out {words.margin(signal, row)} within the observation"
    more = row.needed - signal.watched.evidence.seen
    if more > 0:
        return "too_few_runs", f"{signal.subject.name}: needs about {words.more(signal.subject, more)} ({row.signal})"
    return "in_doubt", f"{name} leans towards an alarm, the next runs decide"
