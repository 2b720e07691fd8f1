"""How a terminal shows updates, verdicts and incidents."""

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

from monitor.clock import clock_time, day, span
from monitor.signal_words import change, evidence, mark, not_judged, ruling_word, sides
from probes.scrub import visible

_COLOURS = {"pass": "green", "regression": "bold red", "inconclusive": "yellow", "watching": "cyan"}


def updates(found: Iterable[Mapping[str, Any]]) -> None:
    """A line an update."""
    table = Table("id", "version", "started", "status", "phase", "verdict", "by", box=None, pad_edge=False)
    for update in found:
        table.add_row(update["id"], escape(update["version"]), moment(update["started"]), update["status"],
                      escape(update["phase"]), _verdict(update["verdict"]), escape(update["by"]))
    _console().print(table)


def status(facts: Mapping[str, Any]) -> None:
    """The verdict in plain words first, then what is missing, then the evidence of every signal, then who did what."""
    console = _console()
    head = f"[bold]{facts['id']}[/bold]  version {escape(facts['version'])}  {facts['status']}, phase {escape(facts['phase'])}"
    console.print(f"{head}  verdict {_verdict(facts['verdict'])}")
    if facts["sentence"]:
        console.print(escape(facts["sentence"]))
    for missing in facts["missing"] if facts["verdict"] != "regression" else ():
        console.print(f"  still missing: {escape(missing)}")
    judged = [signal for signal in facts["signals"] if mark(signal) != "not judged"]
    if judged:
        console.print(_signals(judged))
    for line in not_judged(facts["signals"]):
        console.print(f"  not judged yet, {escape(line)}", highlight=False)
    for act in facts.get("acts", ()):
        console.print(f"  {clock_time(act['at'])}  {escape(act['act'])} by {escape(act['by'])}  {escape(act['detail'])}".rstrip(), highlight=False)


def _signals(signals: Iterable[Mapping[str, Any]]) -> Table:
    table = Table("probe", "signal", "before", "after", "change (95 %)", "evidence / threshold", "ruling", box=None, pad_edge=False)
    for s in signals:
        name = s["probe"] + "".join(f" {part}" for part in (s["device"], s["cohort"]) if part)
        before, after = sides(s)
        table.add_row(escape(name), escape(s["signal"]), escape(before), escape(after), change(s), evidence(s), _ruling(s))
    return table


def _ruling(signal: Mapping[str, Any]) -> str:
    colour = "bold red" if signal["guilty"] else "green" if signal["ruled_clean"] else "default"
    return f"[{colour}]{escape(ruling_word(signal))}[/]"


def incidents(found: Iterable[Mapping[str, Any]], silenced: Collection[str] = ()) -> None:
    """A line an incident. `silenced` names the probes that page nobody just now."""
    table = Table("id", "kind", "urgency", "since", "lasted", "what", "update", "told", box=None, pad_edge=False)
    for incident in found:
        end = incident["resolved"]
        lasted = span(end - incident["began"]) if end else "[bold red]open[/bold red]"
        what = ", ".join(dict.fromkeys(m["probe"] for m in incident["members"])) or incident["said"]
        table.add_row(incident["id"], incident["kind"], incident["urgency"], moment(incident["began"]), lasted,
                      escape(what), escape(incident["version"]), escape(_told(incident, silenced)))
    _console().print(table)


def _told(incident: Mapping[str, Any], silenced: Collection[str]) -> str:
    """Who knows of it: somebody has taken it, it is told, or held back and why; and what was thought of it."""
    bad = {m["probe"] for m in incident["members"] if m["recovered"] is None}
    quiet = incident["resolved"] is None and bad and bad <= set(silenced)
    words = [f"taken by {incident['acked_by']}" if incident["acked_by"] else "told" if incident["told"] else "" if quiet else "held back"]
    return ", ".join(filter(None, (*words, "silenced" if quiet else "", incident["feedback"])))


def silences(found: Iterable[Mapping[str, Any]]) -> None:
    """A line a silence, those that hold first."""
    table = Table("id", "holds", "until", "probes", "reason", "by", box=None, pad_edge=False)
    for silence in sorted(found, key=lambda s: not s["active"]):
        holds = "[bold yellow]yes[/]" if silence["active"] else f"ended by {escape(silence['ended_by'])}" if silence["ended"] else "over"
        table.add_row(silence["id"], holds, moment(silence["ended"] or silence["ends"]), escape(", ".join(silence["probes"])),
                      escape(silence["reason"]), escape(silence["by"]))
    _console().print(table)


def escape(text: str) -> str:
    """Text of somebody else's: neither rich's markup nor a terminal's own commands mean anything in it."""
    return markup.escape(visible(text))


def moment(at: float) -> str:
    """The host's local date and time, to the minute."""
    return f"{day(at)} {clock_time(at)}"


def _console() -> Console:
    """As wide as the terminal; wide enough for every column where there is none."""
    return Console(width=None if sys.stdout.isatty() else 180)


def _verdict(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{verdict}[/]"
