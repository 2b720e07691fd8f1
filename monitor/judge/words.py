"""Plain words for a ruling. They name what customers meet, with the numbers, and never claim more than was seen."""

from collections.abc import Sequence

from monitor.judge.explain import SignalFacts, SignalRuling
from monitor.judge.signals import Subject

_NOUNS = {"http": ("page load", "page loads"), "checkout": ("checkout", "checkouts")}
_OTHERS = ("other run", "other runs")
_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
_TAIL_RATIO = 1.10                # below this a shift of the usual duration is not what alarmed


def span(seconds: float) -> str:
    """A length of time as people say it: "2 hours", "2.5 minutes", "25 seconds"."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 1.5 * size or size == 1.0))
    count = round(seconds / size, 1 if seconds < 10 * size else None)
    return f"{count:g} {unit}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A measured duration: "340 ms", "2.1 s"."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def done(runs: Sequence[tuple[Subject, int]], seconds: float) -> str:
    """What was looked at: "2 hours, 720 page loads, 24 checkouts"."""
    counts: dict[tuple[str, str], int] = {}
    for subject, count in runs:
        noun = _NOUNS.get(subject.kind, _OTHERS)
        counts[noun] = counts.get(noun, 0) + count
    parts = [f"{count} {one if count == 1 else many}" for (one, many), count in counts.items() if count]
    return ", ".join([span(seconds), *parts])


def worst(rows: Sequence[SignalRuling]) -> SignalRuling:
    """The guilty signal to speak of first: failures before slowness, critical before other, then by evidence."""
    guilty = [row for row in rows if row.guilty]
    return max(guilty, key=lambda row: (row.is_success, row.critical, (row.evidence or 0.0) - (row.threshold or 0.0)))


def is_tail(row: SignalRuling) -> bool:
    """True when it is the slowest runs that got slower, not the usual one."""
    return row.ratio is not None and row.ratio < _TAIL_RATIO


def margin(signal: SignalFacts, row: SignalRuling) -> str:
    """The margin of a signal, as harm."""
    if row.is_success:
        return f"{signal.subject.margin.success * 100:.3g} points more failures"
    return f"a slowdown of {signal.subject.margin.p50 * 100:.3g} %"


def harm(signals: Sequence[SignalFacts], rows: Sequence[SignalRuling]) -> str:
    """What customers meet since the update, with the numbers of the worst signal, and who else got worse."""
    row = worst(rows)
    signal = next(signal for signal, other in zip(signals, rows, strict=True) if other is row)
    told = _failing(signal, row) if row.is_success else _slower(signal, row)
    names = dict.fromkeys(
        f"*{other.subject.name}*" for other, line in zip(signals, rows, strict=True) if line.guilty)
    names.pop(f"*{signal.subject.name}*")
    return told + (f"; also worse: {', '.join(names)}." if names else ".")


def _failing(signal: SignalFacts, row: SignalRuling) -> str:
    most = (row.after or 0.0) >= 0.8
    if signal.subject.kind == "checkout":
        what = "Customers cannot check out" if most else "Some customers cannot check out"
    else:
        what = "Customers meet errors" if most else "Some customers meet errors"
    numbers = f"*{signal.subject.name}* failed {row.failed_after} of {row.n_after} since the update"
    return f"{what}: {numbers}, before {row.failed_before} of {row.n_before}"


def _slower(signal: SignalFacts, row: SignalRuling) -> str:
    name = f"*{signal.subject.name}*" + (f" ({row.signal})" if signal.before.signal.value else "")
    if is_tail(row):
        numbers = f"takes {duration(row.after_p95 or 0.0)} or more, before {duration(row.before_p95 or 0.0)}"
        return f"Some customers wait longer: one in twenty runs of {name} {numbers}"
    numbers = f"takes {duration(row.after or 0.0)} (median of {row.n_after}), before {duration(row.before or 0.0)}"
    within = row.ratio is not None and row.ratio < 1 + signal.subject.margin.p50
    return f"Customers wait longer: {name} {numbers}" + (", within the margin" if within else "")


def excused(signals: Sequence[SignalFacts], rows: Sequence[SignalRuling], controls: Sequence[str]) -> str:
    """The harm, and why it is not blamed on the update."""
    others = ", ".join(f"*{name}*" for name in controls)
    return f"{harm(signals, rows)} But {others}, which the update cannot touch, got worse as well."


def undecided(seen: str, missing: Sequence[str], over: bool) -> str:
    """No harm so far, and what is missing to call it a pass."""
    lead = "Cannot tell whether the update did harm" if over else "No harm seen so far"
    return f"{lead}: {seen}" + (f"; missing: {'; '.join(missing)}." if missing else ".")
