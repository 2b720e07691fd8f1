"""One signal of a ruling in words, for terminals and reports. Pure, and quick to import."""

from collections.abc import Mapping
from typing import Any


def sides(signal: Mapping[str, Any]) -> tuple[str, str]:
    """Before and after in words: "0 of 288 failed", or "p50 120 ms, p95 180 ms (400)"."""
    return (_side(signal["n_before"], signal["failed_before"], signal["before"], signal["before_p95"]),
            _side(signal["n_after"], signal["failed_after"], signal["after"], signal["after_p95"]))


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


def _side(count: int, failed: int | None, middle: float | None, tail: float | None) -> str:
    if not count:
        return "-"
    if failed is not None:
        return f"{failed} of {count} failed"
    return f"p50 {_ms(middle)}, p95 {_ms(tail)} ({count})"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
