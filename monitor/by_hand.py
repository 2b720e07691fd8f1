"""A checkout flow run by hand: each step on the terminal as it ends, the browser to be seen if wanted, the evidence in a folder."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from monitor import equipment, once
from monitor.config import Config, Probe
from monitor.parts import plain
from monitor.signal_words import duration
from monitor.targets import of_device
from monitor.terminal import escape
from probes.checkout.probe import Manner
from probes.sample import Outcome, Sample, Step

_SIGNATURE = "signature/"
_KEPT = re.compile(r" ?\[((?:[a-z]+ [^\[\],]+\.[a-z]+(?:, )?)+)\]")


class Progress:
    """Steps on the terminal, the one under way with a spinner; nothing anywhere else."""

    def __init__(self, console: Console) -> None:
        self._console, self._status = console, console.status("starting the browser ...")

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def told(self, message: Mapping[str, Any]) -> None:
        """A step began, or ended."""
        if not self._console.is_terminal or message.get("t") != "step":
            return
        name, state = escape(str(message.get("name"))), message.get("state")
        if state == "begun":
            self._status.update(f"{name} ...")
            return
        mark = "[green]ok[/]    " if state == "ok" else "[bold red]failed[/]"
        self._console.print(f"  {mark} {name}  [dim]{float(message.get('seconds') or 0):.2f} s[/dim]", highlight=False)


async def run(config: Config, probe: Probe, *, device: str, manner: Manner, evidence: Path | None) -> Sample:
    """One run. Without `evidence` what the run leaves goes into a new folder of the system's; none is left where there is nothing to keep.

    A browser that is to be seen is started here, whatever [browser] socket says: the unit behind it has no screen.
    """
    folder = evidence or Path(tempfile.mkdtemp(prefix="tillwatch-evidence-"))
    devices = getattr(probe, "devices", ())
    here = config.model_copy(update={"browser": config.browser.model_copy(update={"socket": None})}) if manner.headed else config
    with Progress(Console(stderr=True)) as progress:
        means = equipment.by_hand(here, Manner(manner.headed, manner.slow_mo, manner.trace, progress.told), folder)
        sample = await once.run(of_device(probe, device or next(iter(devices), "")), means)
    if evidence is None and not any(folder.iterdir()):
        folder.rmdir()
    return _at(sample, folder)


def _at(sample: Sample, folder: Path) -> Sample:
    """The sample with its evidence as paths that can be opened."""
    return replace(sample, evidence=sample.evidence.replace("artifacts/", f"{folder}/"))


def as_text(sample: Sample) -> str:
    """The run for people: what is wrong, each step with the vitals of its documents, what else the browser saw, where the evidence is."""
    words, kept = _apart(sample.evidence)
    head = f"{sample.probe}: {sample.outcome.value}" + (f" ({sample.reason})" if sample.reason else "")
    lines = [f"{head} in {duration(sample.seconds)}" if sample.steps else head, *([f"  {words}"] if words else [])]
    width = max((len(step.name) for step in sample.steps), default=0)
    lines += [f"  {step.name:<{width}}  {duration(step.seconds):>8}  {_came(step)}{_vitals(sample, step.name)}".rstrip() for step in sample.steps]
    lines += [f"  seen: {plain(name.removeprefix(_SIGNATURE))}" + (f", {count:g} times" if count > 1 else "")
              for name, count in sample.counts.items() if name.startswith(_SIGNATURE)]
    if sample.steps:
        lines.append(f"  {_counted(sample)}")
    return "\n".join([*lines, *(f"  {what}: {path}" for what, path in kept)])


def _apart(evidence: str) -> tuple[str, list[tuple[str, str]]]:
    """The words of the evidence, and what was kept beside them: ("screenshot", path)."""
    found = _KEPT.search(evidence)
    if found is None:
        return evidence, []
    kept = [part.partition(" ") for part in found[1].split(", ")]
    return (evidence[:found.start()] + evidence[found.end():]).strip(), [(what, path) for what, _, path in kept]


def _came(step: Step) -> str:
    return "ok" if step.outcome is Outcome.OK else f"{step.outcome.value} ({step.reason})" if step.reason else step.outcome.value


def _vitals(sample: Sample, step: str) -> str:
    found = [(vital, sample.values.get(f"{vital}/{step}")) for vital in ("ttfb", "fcp", "lcp", "inp")]
    told = ", ".join(f"{vital.upper()} {duration(value)}" for vital, value in found if value is not None)
    return f"  {told}" if told else ""


def _counted(sample: Sample) -> str:
    """What there was of the rest, without what there was none of."""
    counts = {name.replace("_", " "): count for name, count in sample.counts.items() if count and not name.startswith(_SIGNATURE)}
    shift = sample.facts.get("cls", 0.0)
    usual = [f"{counts.pop('requests', 0):g} requests", f"{counts.pop('kilobytes', 0):g} kB"]
    return ", ".join([*usual, *(f"{name}: {count:g}" for name, count in counts.items()), *([f"layout shift {shift:.2f}"] if shift else [])])
