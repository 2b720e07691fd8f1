"""One run of one probe without a daemon, and how it is shown."""

import time
from dataclasses import replace
from typing import Any

from monitor.clock import iso
from monitor.config import Probe
from probes.clients import Clients
from probes.sample import Sample, Trigger
from probes.table import PROBES


async def run(probe: Probe, means: Clients | None = None) -> Sample:
    """The sample of one run, marked as made by hand. `means`: what it needs beside the common ones; they are closed afterwards."""
    async with means or Clients() as clients:
        started = time.time()
        sample = await PROBES[probe.kind].probe(probe, clients, None)
        return replace(sample, started=started, ended=time.time(), trigger=Trigger.MANUAL)


def as_dict(sample: Sample) -> dict[str, Any]:
    """The whole sample, for programs. Durations in s."""
    return {
        "probe": sample.probe, "device": sample.device, "cohort": sample.cohort, "outcome": sample.outcome.value, "reason": sample.reason,
        "started": iso(sample.started), "seconds": round(sample.seconds, 6), "trigger": sample.trigger.value,
        "values": {name: round(value, 6) for name, value in sample.values.items()}, "facts": dict(sample.facts), "counts": dict(sample.counts),
        "steps": [{"name": s.name, "outcome": s.outcome.value, "seconds": s.seconds, "reason": s.reason} for s in sample.steps],
        "evidence": sample.evidence,
    }


def as_text(sample: Sample) -> str:
    """The whole sample, for people: times in ms."""
    head = f"{sample.probe}: {sample.outcome.value}" + (f" ({sample.reason})" if sample.reason else "") + f" in {sample.seconds * 1000:.1f} ms"
    lines = [head, *([f"  {sample.evidence}"] if sample.evidence else [])]
    lines += [f"  {name:<24} {value * 1000:10.2f} ms" for name, value in sample.values.items()]
    lines += [f"  {step.name:<24} {step.seconds * 1000:10.2f} ms  {step.outcome.value} {step.reason}".rstrip() for step in sample.steps]
    lines += [f"  {name:<24} {value:13g}" for name, value in {**sample.facts, **sample.counts}.items()]
    return "\n".join(lines)
