"""How a terminal shows updates, verdicts and incidents."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitor.clock import clock_time, day, span
from monitor.signal_words import change, evidence, ruling_word, sides

_COLOURS = {"pass": "green", "regression": "bold red", "inconclusive": "yellow", "watching": "cyan"}


def updates(found: Iterable[Mapping[str, Any]]) -> None:
    """A line an update."""
    table = Table("id", "version", "started", "status", "phase", "verdict", "by", box=None, pad_edge=False)
    for update in found:
        table.add_row(update["id"], escape(update["version"]), f"{day(update['started'])} {clock_time(update['started'])}", update["status"],
                      escape(update["phase"]), _verdict(update["verdict"]), escape(update["by"]))
    _console().print(table)


def status(facts: Mapping[str, Any]) -> None:
    """The verdict in plain words first, then what is missing, then the evidence of every signal, then who did what."""
    console = _console()
    head = f"[bold]{facts['id']}[/bold]  version {escape(facts['version'])}  {facts['status']}, phase {escape(facts['phase'])}"
    console.print(f"{head}  verdict {_verdict(facts['verdict'])}")
    if facts["sentence"]:
        console.print(escape(facts["sentence"]))
    for missing in facts["missing"]:
        console.print(f"  still missing: {escape(missing)}")
    if facts["signals"]:
        console.print(_signals(facts["signals"]))
    for act in facts.get("acts", ()):
        console.print(f"  {clock_time(act['at'])}  {escape(act['act'])} by {escape(act['by'])}  {escape(act['detail'])}".rstrip(), highlight=False)


def _signals(signals: Iterable[Mapping[str, Any]]) -> Table:
    table = Table("probe", "signal", "before", "after", "change (95 %)", "evidence / threshold", "ruling", box=None, pad_edge=False)
    for s in signals:
        name = s["probe"] + "".join(f" {part}" for part in (s["device"], s["cohort"]) if part)
        before, after = sides(s)
        table.add_row(escape(name), s["signal"], before, after, change(s), evidence(s), _ruling(s))
    return table


def _ruling(signal: Mapping[str, Any]) -> str:
    colour = "bold red" if signal["guilty"] else "green" if signal["ruled_clean"] else "default"
    return f"[{colour}]{escape(ruling_word(signal))}[/]"


def incidents(found: Iterable[Mapping[str, Any]]) -> None:
    """A line an incident."""
    table = Table("id", "kind", "urgency", "since", "lasted", "probes", "update", box=None, pad_edge=False)
    for incident in found:
        end = incident["resolved"]
        lasted = span(end - incident["began"]) if end else "[bold red]open[/bold red]"
        table.add_row(incident["id"], incident["kind"], incident["urgency"], f"{day(incident['began'])} {clock_time(incident['began'])}", lasted,
                      escape(", ".join(m["probe"] for m in incident["members"])), escape(incident["version"]))
    _console().print(table)


def _console() -> Console:
    """As wide as the terminal; wide enough for every column where there is none."""
    return Console(width=None if sys.stdout.isatty() else 180)


def _verdict(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{verdict}[/]"
