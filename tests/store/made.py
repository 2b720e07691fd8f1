"""Samples for the tests of the store."""

from typing import Any

from probes.sample import Outcome, Sample

NOW = 1_790_000_000.0
PHASES = ("resolve", "connect", "tls", "processing", "transfer")


def made(at: float = 0.0, **values: Any) -> Sample:
    """A run that started `at` s after NOW."""
    given: dict[str, Any] = {"probe": "home", "outcome": Outcome.OK, "seconds": 0.125, "spacing": 30.0} | values
    return Sample(started=NOW + at, ended=NOW + at + given["seconds"], **given)


def typical(number: int) -> Sample:
    """A good run of one of fifty http probes, as it is stored all day."""
    values = dict.fromkeys(PHASES, 0.01 + number % 7 / 1000)
    return made(number * 0.6, probe=f"probe-{number % 50}", seconds=0.1 + number % 13 / 100, values=values)
