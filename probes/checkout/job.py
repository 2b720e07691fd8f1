"""What passes between the daemon and the browser worker: a job, what is said on the way, and the report. Pure.

All of it is JSON, so that the worker can be a process of its own, and of a unit of its own.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

OFFERED = {"run": "{run}", "email": "tillwatch+{run}@example.com", "name": "Tillwatch Test"}     # variables that every flow has
VERSION = 1                # of this protocol: both ends say it, and others are refused

Say = Callable[[Mapping[str, Any]], Awaitable[None]]      # tells the daemon something on the way: a step, an artifact
Ask = Callable[[], Awaitable[str]]                        # asks it whether the flow may submit: "" when it may, else why not
State = Literal["begun", "ok", "failed"]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a browser is started. Runs that agree in it share one warm browser."""

    browser: Literal["chromium", "firefox", "webkit"] = "chromium"
    executable_path: str = ""            # "" = look for one
    channel: str = ""
    no_sandbox: bool = False
    hosts: tuple[str, ...] = ()          # all that it can reach; "*.psp.example" is every host below; empty = anything
    headed: bool = False
    slow_mo: float = 0.0                 # s between what it does
    args: tuple[str, ...] = ()           # further arguments of the program


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one flow. Durations in s."""

    run: str                             # its name: letters and digits, another for each run
    probe: str
    url: str                             # the shop's address: paths of the flow are below it
    timeout: float                       # the flow ends no later than this
    launch: Launch = field(default_factory=Launch)
    device: str = ""                     # Playwright's name of one; "" = a plain window
    source: str = ""                     # of a flow written in Python
    file: str = "flow.py"                # what that is called where it goes wrong
    steps: tuple[Mapping[str, Any], ...] = ()      # of a declared flow, as the configuration has them
    stop_before: str = ""                # the step that is not entered; "" = the order is placed
    step_timeout: float = 15.0           # what one action or assertion may take
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    fail_on: tuple[str, ...] = ()        # kinds of findings that fail the run
    profile: Literal["clean", "returning"] = "clean"
    profile_dir: str = ""                # where the storage of a returning customer is kept
    trace: Literal["off", "failure", "on"] = "off"
    orders: tuple[str, ...] = ()         # of earlier runs, not cancelled yet: the flow's own cleanup tries again

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        mine = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "launch"}
        return mine | {"launch": {one.name: getattr(self.launch, one.name) for one in fields(Launch)}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError or KeyError when it is not one."""
        launch = Launch(**_frozen(data["launch"]))
        return cls(**{**_frozen(data), "launch": launch})


def _frozen(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


@dataclass(slots=True)
class StepReport:
    """One step of the flow. `seconds` is its own time, without what was measured after it."""

    name: str
    seconds: float
    reason: str = ""                     # "" when it passed


@dataclass(slots=True)
class Report:
    """What came of a run. `reason` is one of the closed list, "" when all was well."""

    reason: str = ""
    evidence: str = ""                   # scrubbed, for a person
    seconds: float = 0.0                 # the sum of the steps
    steps: list[StepReport] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)        # numbers of orders that were placed and not yet cancelled
    cancelled: list[str] = field(default_factory=list)     # numbers of those that the flow's own cleanup took back, the job's too
    submitted: bool = False
    overloaded: bool = False
    worn: bool = False                   # the browser is not to be trusted any more

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "steps"}
        return plain | {"steps": [[step.name, step.seconds, step.reason] for step in self.steps]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError or KeyError when it is not one."""
        return cls(**{**data, "steps": [StepReport(*step) for step in data["steps"]]})
