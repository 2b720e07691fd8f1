"""One signal of a ruling in words, for terminals, pages and reports. Pure, and quick to import.

`before_text` and `after_text` may quote the shop: whoever shows them has to escape them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_NAMED = 4           # signals of a probe that are named when they are not judged


def sides(signal: Mapping[str, Any]) -> tuple[str, str]:
    """Before and after in words: "0 of 288 failed", or "p50 120 ms, p95 180 ms (400)", or "3 a minute (400)"."""
    return (_side(signal["n_before"], signal.get("before_text"), signal["failed_before"], signal["before"], signal["before_p95"]),
            _side(signal["n_after"], signal.get("after_text"), signal["failed_after"], signal["after"], signal["after_p95"]))


def change(signal: Mapping[str, Any]) -> str:
    """After divided by before, with its interval: "×2.4 (2.1 to 2.8)"."""
    if signal["ratio"] is None:
        return "-"
    lower, upper = signal["ratio_lower"], signal["ratio_upper"]
    interval = f" ({lower:.2f} to {upper:.2f})" if lower is not None and upper is not None else ""
    return f"×{signal['ratio']:.2f}{interval}"


def evidence(signal: Mapping[str, Any]) -> str:
    """Evidence against threshold: "10^3.1 / 10^1.5"."""
    return "-" if signal["evidence"] is None else f"10^{signal['evidence']:.1f} / 10^{signal['threshold']:.1f}"


def ruling_word(signal: Mapping[str, Any]) -> str:
    """What was made of it."""
    if signal["guilty"]:
        return "worse"
    if signal["control"]:
        return "control"
    return "clean" if signal["ruled_clean"] else signal["note"] or "not ruled out"


def mark(signal: Mapping[str, Any]) -> str:
    """What was made of it, as one of five words: worse, clean, open, control, or not judged."""
    if signal["guilty"]:
        return "worse"
    if signal["evidence"] is None:
        return "not judged"
    return "control" if signal["control"] else "clean" if signal["ruled_clean"] else "open"


def not_judged(signals: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each probe with signals of which nothing can be said yet: how many, which, and why the first of them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for signal in signals:
        if mark(signal) == "not judged":
            found.setdefault(" ".join(filter(None, (signal["probe"], signal["device"], signal["cohort"]))), []).append(signal)

    def told(group: list[Mapping[str, Any]]) -> str:
        named = ", ".join(s["signal"] for s in group[:_NAMED]) + (f" and {len(group) - _NAMED} more" if len(group) > _NAMED else "")
        return f"{named}: {because(group[0]) or 'no runs'}"
    return [f"{name}: {told(group)}" for name, group in found.items()]


def share(signal: Mapping[str, Any]) -> float:
    """How far the evidence has come on its way to the threshold, from 0 to 1."""
    if signal["evidence"] is None or not signal["threshold"]:
        return 0.0
    return float(min(1.0, max(0.0, signal["evidence"] / signal["threshold"])))


def because(signal: Mapping[str, Any]) -> str:
    """The rule by which it was taken so, and what keeps it from being judged."""
    rule = {
        "worse": "the evidence has reached the threshold" if share(signal) >= 1 else "its evidence reached the threshold, alone or with others",
        "not judged": "",
        "control": "the update cannot touch it: if it gets worse too, something else is the cause",
        "clean": f"{signal['n_after']} runs are enough: harm of the size of the margin would have alarmed with 80 % probability",
        "open": _lacks(signal),
    }[mark(signal)]
    note = "" if signal["note"] == "control" else signal["note"].removeprefix("control; ")
    return "; ".join(filter(None, (rule, note)))


def _lacks(signal: Mapping[str, Any]) -> str:
    """What an open signal needs to be called clean. Harm of the size of its margin must have had a good chance to show itself."""
    if signal["needed"] is None:
        return "it varies too much to rule harm out in time"
    more = signal["needed"] - signal["n_after"]
    if more <= 0:
        return "it leans towards an alarm: the next runs decide"
    return f"harm could still hide: about {more} more run{'' if more == 1 else 's'} needed"


def _side(count: int, text: str | None, failed: int | None, middle: float | None, tail: float | None) -> str:
    if not count:
        return "-"
    if text:
        return f"{text} ({count})"
    if failed is not None:
        return f"{failed} of {count} failed"
    if middle is None:
        return f"{count} run{'' if count == 1 else 's'}"
    return f"p50 {_ms(middle)}, p95 {_ms(tail)} ({count})"


def duration(seconds: float) -> str:
    """A measured duration: "8.4 ms", "125 ms", "1.25 s"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _ms(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
