"""What a signal showed, as people say it: quantities with their units, for the kinds that are neither failures nor durations."""

from monitor.judge.counts import CountFit
from monitor.judge.evidence import Fit, Watched
from monitor.judge.novelty import NoveltyFit
from monitor.judge.ratios import RatioFit
from monitor.judge.silence import SilenceEvidence, SilenceFit
from monitor.parts import plain, worst_first
from probes.sample import Signal

_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
_EXAMPLES, _LONGEST = 3, 80       # new signatures that are quoted, and their characters: a message has little room


def span(seconds: float) -> str:
    """A length of time as people say it: "2 hours", "2.5 minutes", "25 seconds"."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 1.5 * size or size == 1.0))
    count = round(seconds / size, 1 if seconds < 10 * size else None)
    return f"{count:g} {unit}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A measured duration: "340 ms", "2.1 s"."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def number(value: float) -> str:
    """Three digits, no exponent: "41", "0.25", "12300"."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 or not value else "0"


def percent(share: float) -> str:
    """A share: "4.1 %"."""
    return f"{number(share * 100)} %"


def each(events: float, spacing: float) -> str:
    """Events of a run as a rate: "41 a minute"; "0.2 an hour" when they are rare; "3 a run" when its spacing (s) is not known."""
    if spacing <= 0:
        return f"{number(events)} a run"
    minute = events * 60 / spacing
    return f"{number(minute)} a minute" if minute >= 0.1 or not minute else f"{number(minute * 60)} an hour"


def before(signal: Signal, fit: Fit | None, spacing: float) -> str:
    """The past in words; "" for failures and durations, whose numbers speak."""
    if isinstance(fit, CountFit):
        return each(fit.mean, spacing)
    if isinstance(fit, RatioFit):
        return percent(1 - fit.share if signal.harm == "down" else fit.share)
    if isinstance(fit, NoveltyFit):
        runs = fit.births.count
        return f"{fit.new} new in {span(runs * spacing) if spacing > 0 else f'{runs} runs'}"
    if isinstance(fit, SilenceFit):
        return f"never longer than {silence(fit.longest, spacing)}" if fit.longest else "never silent"
    return ""


def after(watched: Watched | None, spacing: float) -> str:
    """What was seen since the update, in words; "" as above, and when nothing was."""
    if watched is None or not watched.taken:
        return ""
    if isinstance(watched.fit, CountFit):
        return each(watched.mean(), spacing)
    if isinstance(watched.fit, RatioFit):
        return percent(watched.share())
    if isinstance(watched.fit, NoveltyFit):
        return news(watched.found)
    if isinstance(watched.evidence, SilenceEvidence):
        gap, longest = watched.evidence.gap, watched.evidence.longest
        lasts = gap == longest
        return f"{'silent' if lasts else 'was silent'} for {silence(longest, spacing)}" if longest else "never silent"
    return ""


def silence(runs: int, spacing: float) -> str:
    """So many silent runs as a length of time."""
    return span(runs * spacing) if spacing > 0 else f"{runs} run{'' if runs == 1 else 's'}"


def news(found: dict[str, float]) -> str:
    """Signatures that are new: "3 never seen before, 12 times: “...”", those first that tell most."""
    if not found:
        return "nothing new"
    quoted = ", ".join(f"“{quoted_signature(name)}”" for name in worst_first(found)[:_EXAMPLES])
    times = sum(found.values())
    return f"{len(found)} never seen before, {number(times)} time{'' if times == 1 else 's'}: {quoted}"


def quoted_signature(name: str) -> str:
    """A signature on one line without its level, cut. It comes from the shop: whoever shows it has to escape it."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in plain(name)).split())
    return line if len(line) <= _LONGEST else line[:_LONGEST - 1] + "…"
