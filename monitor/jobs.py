"""What runs how often, and where in its interval it starts. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.health import Target

SLOT_SECONDS = 0.02        # plain probes start together in slots of this width at most ...
SLOT_PROBES = 4            # ... or of so many probes on average: they share a wake-up, at little cost to their timing


@dataclass(frozen=True, slots=True)
class Job:
    """What the scheduler needs to know of a target. `group` names its limit in Concurrency; times in s.

    `fast` is the spacing while an update is watched and in bursts: `interval`, or a whole part of it.
    """

    target: Target
    group: str
    interval: float
    timeout: float
    recheck: float
    fast: float
    heavy: bool = False      # a TLS handshake or more: never started in one wake-up with another


def slot_width(jobs: Iterable[Job]) -> float:
    """Width of the start slots in s: a power of two of SLOT_SECONDS, so that a new probe moves hardly any other."""
    rate = sum(1 / job.interval for job in jobs if not job.heavy)
    width = SLOT_SECONDS
    while width * rate > SLOT_PROBES * 1.5:
        width /= 2
    return width


def phase(job: Job, width: float) -> float:
    """Where in its interval a target starts, in s: the same on every start, spread evenly over all targets."""
    digest = hashlib.blake2b("\0".join(job.target).encode(), digest_size=8).digest()
    at = int.from_bytes(digest) / 2**64 * job.interval
    return at if job.heavy else at // width * width
