"""One run as the daemon's end hears it: what the worker tells on the way, what it asks, and the report; and what is known when none comes."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from pydantic import TypeAdapter, ValidationError

from probes.checkout import frames
from probes.checkout.frames import FrameError
from probes.checkout.job import VERSION, Ask, Job, Report, StepReport
from probes.reasons import REASONS
from probes.scrub import scrub

Told = Callable[[Mapping[str, Any]], None]       # hears of every step and every artifact

SENDING = 5.0                                    # s in which the other end must take what is sent
_MOST_BYTES = 3 * frames.LARGEST                 # of artifacts that a run may send
_MOST_MESSAGES = 5000
_SOUND = TypeAdapter(Report)


@dataclass(slots=True)
class Talk:
    """What is known of one run so far."""

    told: Told
    ask: Ask
    step: str = ""                               # the one under way
    steps: list[StepReport] = field(default_factory=list)
    begun: float = 0.0                           # when the flow began, monotonic; 0 before
    submitted: bool = False                      # whether it was allowed to
    report: Report | None = None                 # what the worker said holds, should nothing more come
    memory: int = 0

    async def until_done(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Report:
        """Listen to the other end until it reports. Raises FrameError (also when it is gone) and OSError; whoever waits sets the deadline."""
        answering: asyncio.Task[None] | None = None
        size, count = 0, 0
        try:
            while True:
                message = await frames.read(reader)
                size, count = size + len(message.get("data", "")), count + 1
                if size > _MOST_BYTES or count > _MOST_MESSAGES:
                    raise FrameError("it says more than any run has to say")
                if message["t"] == "done":
                    self.memory, report = message["memory"], sound(message["report"])
                    report.submitted = report.submitted or self.submitted
                    broke_later = report.reason == "browser" and self.report is not None and self.report.reason != "browser"
                    return self.lost(report.evidence) if broke_later else report
                if message["t"] == "guard" and answering is None:
                    answering = asyncio.create_task(self._answer(writer), name="guard of a checkout")
                    answering.add_done_callback(lambda task: self._answered(task, reader))
                else:
                    self._hear(message)
        finally:
            if answering and not answering.done():
                answering.cancel()
                await asyncio.wait([answering])

    def _hear(self, message: dict[str, Any]) -> None:
        match message["t"]:
            case "begun":
                self.begun = monotonic()
            case "step":
                self._note(message["name"], message["state"], message["seconds"], message["reason"])
                self.told(message)
            case "artifact":
                self.told(message)
            case "report":
                self.report = sound(message["report"])
            case other:
                raise FrameError(f'it sent "{other}" where it has no place')

    def _note(self, name: str, state: str, seconds: float, reason: str) -> None:
        if state not in {"begun", "ok", "failed"}:
            raise FrameError("it sent a step in a state that this version does not know")
        self.step = name if state == "begun" else ""
        if state != "begun":
            self.steps.append(StepReport(name, seconds, reason))

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        """Whether it may submit. Once said it counts as done: what became of it may never be known."""
        why = await self.ask()
        self.submitted = self.submitted or not why
        with suppress(OSError, TimeoutError):            # a worker that is gone is found where it is read from
            async with asyncio.timeout(SENDING):
                await frames.write(writer, {"t": "go", "why": why[:500]})

    def _answered(self, task: "asyncio.Task[None]", reader: asyncio.StreamReader) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            reader.set_exception(error)                  # of the daemon's own: it flies to whoever runs this

    def lost(self, words: str) -> Report:
        """The report of a run that got none: our doing, and in the words as much as is known. What the worker said would hold, holds."""
        if self.report is not None:
            self.report.worn = True
            self.report.submitted = self.report.submitted or self.submitted
            return self.report
        return self.named(Report("browser", scrub(words), worn=True, submitted=self.submitted))

    def named(self, report: Report) -> Report:
        """With the steps that we know of and the one under way, where our browser broke the run off and the worker does not tell them."""
        if report.reason != "browser" or report.steps:
            return report
        at = f'step "{self.step}": ' if self.step else f'after step "{self.steps[-1].name}": ' if self.steps else ""
        if not report.evidence.startswith(("step ", "after step ")):
            report.evidence = scrub(f"{at}{report.evidence}")
        report.steps, report.seconds = self.steps, sum(step.seconds for step in self.steps)
        return report


def greet(message: Mapping[str, Any]) -> None:
    """The other end's first message. Raises FrameError when it is not of this version."""
    if message["t"] != "hello":
        raise FrameError("it does not begin as this version does")
    if message["version"] != VERSION:
        raise FrameError(f"it speaks version {message['version']} of the protocol, not {VERSION}: is one of the two older?")


def run_message(job: Job) -> dict[str, Any]:
    """What asks for a run."""
    return {"t": "run", "version": VERSION, "job": job.to_dict()}


def sound(data: Mapping[str, Any]) -> Report:
    """The report, when every part of it is of its type and the reason is of the closed list. Raises FrameError."""
    try:
        steps = [{"name": step.name, "seconds": step.seconds, "reason": step.reason} for step in Report.from_dict(data).steps]
        report = _SOUND.validate_python({**data, "steps": steps})
    except (TypeError, KeyError, ValueError, ValidationError):
        raise FrameError("its report is not one") from None
    if report.reason and report.reason not in REASONS:
        raise FrameError("its report has a reason that this version does not know")
    return report
