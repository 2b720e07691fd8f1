"""Plain words for a ruling. They name what customers meet, with the numbers, and never claim more than was seen."""

from collections.abc import Sequence

from monitor.judge.explain import SignalFacts, SignalRuling
from monitor.judge.lines import duration, span
from monitor.judge.signals import Subject

_NOUNS = {"http": ("page load", "page loads"), "checkout": ("checkout", "checkouts")}
_OTHERS = ("other run", "other runs")
_TAIL_RATIO = 1.10                # below this a shift of the usual duration is not what alarmed


def done(runs: Sequence[tuple[Subject, int]], seconds: float) -> str:
    """What was looked at: "2 hours, 720 page loads, 24 checkouts"."""
    counts: dict[tuple[str, str], int] = {}
    for subject, count in runs:
        noun = _NOUNS.get(subject.kind, _OTHERS)
        counts[noun] = counts.get(noun, 0) + count
    parts = [f"{count} {one if count == 1 else many}" for (one, many), count in counts.items() if count]
    return ", ".join([span(seconds), *parts])


def more(subject: Subject, count: int) -> str:
    """So many more of what the probe does: "14 more checkouts", "1 more run"."""
    one, many = _NOUNS.get(subject.kind, ("run", "runs"))
    return f"{count} more {one if count == 1 else many}"


def worst(rows: Sequence[SignalRuling]) -> SignalRuling:
    """The guilty signal to speak of first: failures before slowness, critical before other, then by evidence."""
    guilty = [row for row in rows if row.guilty]
    return max(guilty, key=lambda row: (row.is_success, row.critical, (row.evidence or 0.0) - (row.threshold or 0.0)))


def is_tail(row: SignalRuling) -> bool:
    """True when it is the slowest runs that got slower, not the usual one."""
    return row.test == "latency" and row.ratio is not None and row.ratio < _TAIL_RATIO


def harmed(signal: SignalFacts, row: SignalRuling) -> str:
    """What kind of harm the line shows: a key of REASONS."""
    if row.is_success:
        return "failures"
    if row.test == "latency":
        return "slow_tail" if is_tail(row) else "slower"
    more = "fewer" if signal.before.signal.harm == "down" else "more"
    return {"novelty": "new_errors", "silence": "silent", "ratio": f"{more}_per_try"}.get(row.test, f"{more}_events")


def reason(signals: Sequence[SignalFacts], rows: Sequence[SignalRuling]) -> str:
    """What kind of harm the worst signal shows: a key of REASONS."""
    first = worst(rows)
    return next(harmed(signal, row) for signal, row in zip(signals, rows, strict=True) if row is first)


def margin(signal: SignalFacts, row: SignalRuling) -> str:
    """The margin of a signal, as harm."""
    if row.is_success:
        return f"{signal.subject.margin.success * 100:.3g} points more failures"
    return f"a slowdown of {signal.subject.margin.p50 * 100:.3g} %"


def harm(signals: Sequence[SignalFacts], rows: Sequence[SignalRuling]) -> str:
    """What customers meet since the update, with the numbers of the worst signal, and who else got worse."""
    guilty = [(signal, row) for signal, row in zip(signals, rows, strict=True) if row.guilty]
    first = worst(rows)
    target = first.probe, first.device, first.cohort
    failing = [pair for pair in guilty if first.is_success and pair[1].is_success and pair[0].subject.key == target]
    whole = [pair for pair in failing if not pair[0].before.signal.value]      # the run as a whole speaks for its steps
    signal, row = (whole or [pair for pair in guilty if pair[1] is first])[0]
    steps = [step.before.signal.value.partition("/")[2] for step, _ in failing if whole and step.before.signal.value]
    told = _told(signal, row) + (f", at {', '.join(steps)}" if steps else "")
    names = dict.fromkeys(f"*{other.subject.name}*" for other, _ in guilty)
    names.pop(f"*{signal.subject.name}*")
    return told + (f"; also worse: {', '.join(names)}." if names else ".")


def _told(signal: SignalFacts, row: SignalRuling) -> str:
    return {
        "bernoulli": _failing, "latency": _slower, "count": _counted, "ratio": _shared, "novelty": _new, "silence": _silent,
    }[row.test](signal, row)


def _failing(signal: SignalFacts, row: SignalRuling) -> str:
    most = (row.after or 0.0) >= 0.8
    if signal.subject.kind == "checkout":
        what = "Customers cannot check out" if most else "Some customers cannot check out"
    else:
        what = "Customers meet errors" if most else "Some customers meet errors"
    name = f"*{signal.subject.name}*" + (f" ({row.signal})" if signal.before.signal.value else "")
    numbers = f"{name} failed {row.failed_after} of {row.n_after} since the update"
    return f"{what}: {numbers}, before {row.failed_before} of {row.n_before}"


def _slower(signal: SignalFacts, row: SignalRuling) -> str:
    name = f"*{signal.subject.name}*" + (f" ({row.signal.removeprefix('duration of ')})" if signal.before.signal.value else "")
    if is_tail(row):
        numbers = f"takes {duration(row.after_p95 or 0.0)} or more, before {duration(row.before_p95 or 0.0)}"
        return f"Some customers wait longer: one in twenty runs of {name} {numbers}"
    numbers = f"takes {duration(row.after or 0.0)} (median of {row.n_after}), before {duration(row.before or 0.0)}"
    within = row.ratio is not None and row.ratio < 1 + signal.subject.margin.p50
    return f"Customers wait longer: {name} {numbers}" + (", within the margin" if within else "")


def _counted(signal: SignalFacts, row: SignalRuling) -> str:
    fewer = signal.before.signal.harm == "down"
    verb = "logged" if signal.before.signal.family == "log" else "had"
    rate, _, per = row.after_text.partition(" ")
    usual = row.before_text.removesuffix(f" {per}")
    return (f"{'Fewer' if fewer else 'More'} {row.signal} than before: *{signal.subject.name}* {verb} {rate} {row.signal} {per} "
            f"(mean of {row.n_after} run{'' if row.n_after == 1 else 's'}), before {usual}")


def _shared(signal: SignalFacts, row: SignalRuling) -> str:
    way = "Fewer" if signal.before.signal.harm == "down" else "More"
    return f"{way} {row.signal} than before: {row.after_text} at *{signal.subject.name}*, before {row.before_text}"


def _new(signal: SignalFacts, row: SignalRuling) -> str:
    verb = "logged" if signal.before.signal.family == "log" else "met"
    return f"Errors that nobody has seen before: *{signal.subject.name}* {verb} {row.after_text}"


def _silent(signal: SignalFacts, row: SignalRuling) -> str:
    lasts = "has been " if row.after_text.startswith("silent") else ""
    return f"The log of *{signal.subject.name}* {lasts}{row.after_text}; before {row.before_text}"


def excused(signals: Sequence[SignalFacts], rows: Sequence[SignalRuling], controls: Sequence[str]) -> str:
    """The harm, and why it is not blamed on the update."""
    others = ", ".join(f"*{name}*" for name in controls)
    return f"{harm(signals, rows)} But {others}, which the update cannot touch, got worse as well."


def undecided(seen: str, missing: Sequence[str], over: bool) -> str:
    """No harm so far, and what is missing to call it a pass."""
    lead = "Cannot tell whether the update did harm" if over else "No harm seen so far"
    return f"{lead}: {seen}" + (f"; missing: {'; '.join(missing)}." if missing else ".")
