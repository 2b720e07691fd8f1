"""A checkout flow run by hand: each step on the terminal as it ends, the browser to be seen if wanted, the evidence in a folder."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from monitor import equipment, once
from monitor.config import Config, Probe
from monitor.targets import of_device
from monitor.terminal import escape
from probes.checkout.probe import Manner
from probes.sample import Sample


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
    """One run. Without `evidence` what the run leaves goes into a new folder of the system's; none is left where there is nothing to keep."""
    folder = evidence or Path(tempfile.mkdtemp(prefix="tillwatch-evidence-"))
    devices = getattr(probe, "devices", ())
    with Progress(Console(stderr=True)) as progress:
        means = equipment.by_hand(config, Manner(manner.headed, manner.slow_mo, manner.trace, progress.told), folder)
        sample = await once.run(of_device(probe, device or next(iter(devices), "")), means)
    if evidence is None and not any(folder.iterdir()):
        folder.rmdir()
    return _at(sample, folder)


def _at(sample: Sample, folder: Path) -> Sample:
    """The sample with its evidence as paths that can be opened."""
    return replace(sample, evidence=sample.evidence.replace("artifacts/", f"{folder}/"))
