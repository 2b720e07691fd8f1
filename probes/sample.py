"""What one run of a probe says: the only thing that passes from measuring to remembering, judging and telling."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Outcome(StrEnum):
    """Whose doing it was: *failed* is the shop's fault, *broken* is ours and never turns the shop red."""

    OK = "ok"
    FAILED = "failed"
    BROKEN = "broken"


class Trigger(StrEnum):
    """Why the run was started. Only *scheduled* and *burst* runs reach the judge."""

    SCHEDULED = "scheduled"
    RECHECK = "recheck"
    BURST = "burst"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Step:
    """One named part of a run; `seconds` is its own duration."""

    name: str
    outcome: Outcome
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one probe.

    A probe fills in what it measured. `started` and `ended` (Unix time, s), `trigger`, `spacing` (s between the runs
    of this probe at that moment) and `overloaded` are stamped by whoever ran it.
    """

    probe: str
    outcome: Outcome
    reason: str = ""                              # "" when ok, else one of the closed list in docs/reasons.md
    seconds: float = 0.0                          # the duration that is judged; monotonic clock
    device: str = ""
    cohort: str = ""
    steps: tuple[Step, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)         # measured durations in s by name; stored with the sample
    counts: Mapping[str, int] = field(default_factory=dict)    # events counted in this run, by name; stored
    examples: Mapping[str, str] = field(default_factory=dict)  # what a signature of `counts` stands for, scrubbed; stored once
    facts: Mapping[str, float] = field(default_factory=dict)          # the newest state, shown and exported, not stored
    evidence: str = ""                            # scrubbed text for a person, at most a few hundred characters
    checkpoint: bytes | None = None               # what the next run must know; committed with the sample
    started: float = 0.0
    ended: float = 0.0
    trigger: Trigger = Trigger.SCHEDULED
    spacing: float = 0.0
    overloaded: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """What a kind of probe declares to the judge: which number of its samples is compared, and how.

    `test` names the test, and `value` what it reads:
    *bernoulli* the outcome of the run ("") or of a step ("step/pay");
    *latency* `Sample.seconds` ("") of runs that were ok, or a name of `Sample.values`, or a step that passed ("step/pay");
    *count* a name of `Sample.counts`: events since the run before. No events are a 0; a name that is missing says nothing;
    *ratio* `value` per `per`, two names of `Sample.counts`: errors per request, orders per session;
    *novelty* every name of `Sample.counts` that begins with `value`: the rest of the name is a signature. What weighs more
    begins with "error:", "critical:" or "changed:" (see monitor/judge/novelty.py);
    *silence* a name of `Sample.counts`: lines since the run before, of something that always spoke.

    A `value` that ends in "/*" stands for every such name of the past, one signal each: "step/*". The "*" of `name` becomes it, and that
    of a `per` which ends so too.
    """

    name: str
    test: Literal["bernoulli", "latency", "count", "ratio", "novelty", "silence"]
    value: str = ""
    per: str = ""                                 # of a ratio: the name of its denominator
    harm: Literal["up", "down"] = "up"            # of counts and ratios: which way is worse
    family: Literal["probe", "log", "business"] = "probe"      # evidence that shares a weight, see docs/judge.md
