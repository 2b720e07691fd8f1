"""How the shop is, in one sentence: what whoever is on call reads first. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from monitor.alerts.page import Page
from monitor.clock import clock_time

BAD = ("down", "broken", "failing")          # states of a probe, the worst first


@dataclass(frozen=True, slots=True)
class State:
    """`mark` is its colour: bad, unsure, good, or none while nothing is known."""

    mark: Literal["bad", "unsure", "good", "none"]
    sentence: str


def state(told: Sequence[Page], targets: Collection[Mapping[str, Any]], watched: Mapping[str, Any] | None, wellbeing: Mapping[str, Any]) -> State:
    """From the pages of the open incidents, the probes, the facts of the update that is watched, and how Tillwatch itself is."""
    shop, faults = [p for p in told if p.kind != "monitor_fault"], [p for p in told if p.kind == "monitor_fault"]
    if shop:
        worst = min(shop, key=lambda page: page.urgency != "page")
        return State("bad", _stop(worst.sentence) + _others(len(shop) - 1))
    if faults:
        worst = min(faults, key=lambda page: page.urgency != "page")
        return State("unsure", f"The shop has no open incident, but Tillwatch needs help. {_stop(worst.sentence)}{_others(len(faults) - 1)}")
    if not wellbeing["healthy"]:
        return State("unsure", f"Tillwatch itself is not well: {unwell(wellbeing)}.")
    return _unsure(targets) or (State("unsure", watching(watched)) if watched else _well(targets))


def watching(update: Mapping[str, Any]) -> str:
    """How it stands with an update that has no verdict yet."""
    name = f"Update {update['version']} is being watched"
    if update["status"] == "recovering":
        return f"Update {update['version']} was rolled back: is the shop back to normal?"
    if update["downtime_until"] and update["status"] == "open" and not update["sentence"]:
        return f"{name}: pages may fail until {clock_time(update['downtime_until'])}, as announced."
    if update["reason"] in {"", "nothing_judged"} or not any(signal["n_after"] for signal in update["signals"]):
        return f"{name}: nothing has been judged since it began."
    if update["reason"] == "control_worse":
        return f"{name}. {update['sentence']}"
    first, more = next(iter(update["missing"]), ""), len(update["missing"]) - 1
    lacks = f". Missing for a pass: {first}" + (f", and {more} more" if more > 0 else "") if first else ""
    return f"{name}: no harm so far{lacks}."


def unwell(wellbeing: Mapping[str, Any]) -> str:
    """What a status that is not healthy complains of."""
    return ", ".join(f"{part}: {word}" for part, word in wellbeing.items() if isinstance(word, str) and word != "ok") or "its log says why"


def _unsure(targets: Collection[Mapping[str, Any]]) -> State | None:
    """What the probes say that is neither an incident nor well."""
    if not targets:
        return State("none", "No probe is configured: nothing is watched.")
    if all(target["state"] == "unknown" for target in targets):
        return State("none", "No data yet: no probe has run since Tillwatch was started.")
    for bad in BAD:
        names = list(dict.fromkeys(f"*{t['probe']}*" for t in targets if t["state"] == bad))
        if names:
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            return State("unsure", {
                "down": f"{listed}: down.", "broken": f"{listed}: cannot be measured just now.",
                "failing": f"{listed}: failing, not for long enough to be an outage.",
            }[bad])
    return None


def _well(targets: Collection[Mapping[str, Any]]) -> State:
    unknown = sum(target["state"] == "unknown" for target in targets)
    waits = f", {unknown} {'has' if unknown == 1 else 'have'} not run yet" if unknown else ""
    return State("good", f"All {'other ' if unknown else ''}probes are well{waits}.")


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _others(count: int) -> str:
    return f" And {count} more open incident{'' if count == 1 else 's'}." if count > 0 else ""
