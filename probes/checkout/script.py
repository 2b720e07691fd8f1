"""A flow as something that can be walked: out of a Python file, or out of declared steps."""

import inspect
import linecache
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from probes.checkout.cards import refused_in
from probes.checkout.flow import Flow, FlowError
from probes.checkout.inspection import step_names
from probes.checkout.job import Job
from probes.checkout.steps import DeclaredStep
from probes.checkout.walk import walk


@dataclass(frozen=True, slots=True)
class Script:
    """What is walked, and what cancels an order that was placed; None when the flow does not say how."""

    checkout: Callable[[Flow], Awaitable[None]]
    cleanup: Callable[[Flow, str], Awaitable[None]] | None = None


class UnsafeError(Exception):
    """A safety rule refuses the flow: the words say which."""


def load(job: Job) -> Script:
    """The flow of a job. Raises FlowError when it is wrong, UnsafeError when it could do harm."""
    _check_cards(job)
    if job.steps:
        steps = [DeclaredStep.model_validate(step) for step in job.steps]
        _check_end(job, [step.name for step in steps])
        return Script(lambda flow: walk(flow, steps))
    space = _run(_compiled(job.source, job.file), job)
    script = Script(_function(space, "checkout", 1, job.file), _function(space, "cleanup", 2, job.file) if "cleanup" in space else None)
    _check_end(job, _step_names(job.source))
    return script


def _check_cards(job: Job) -> None:
    refused = set(_refused_in_flow("\n".join([job.source, *map(str, job.steps)])))
    refused |= {card for text in (*job.variables.values(), *job.secrets.values()) for card in refused_in(text)}
    if refused:
        raise UnsafeError(f"{', '.join(sorted(refused))} is no known test card: a probe never uses a real one")


# A flow is the same from run to run, and a worker is asked for few of them.
_refused_in_flow = lru_cache(maxsize=16)(refused_in)
_step_names = lru_cache(maxsize=16)(step_names)


def _check_end(job: Job, names: list[str] | None) -> None:
    """The step before which it stops must exist: else the flow would go on to the end. Raises UnsafeError."""
    file = job.file or "this flow"
    if job.stop_before and names is not None and job.stop_before not in names:
        known = ", ".join(f'"{name}"' for name in names) or "none"
        raise UnsafeError(f'stop_before = "{job.stop_before}" is no step of {file}, so it would not stop there; its steps: {known}')
    if job.stop_before and names is None:
        raise UnsafeError(f'{file} has steps whose names are not written out, so nobody can see whether it stops before "{job.stop_before}"')


@lru_cache(maxsize=16)
def _compiled(source: str, file: str) -> CodeType:
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file     # for its lines in tracebacks
    try:
        return compile(source, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise FlowError(f"{file}{f':{line}' if line else ''}: {getattr(error, 'msg', error)}") from None


def _run(code: CodeType, job: Job) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "flow", "__file__": job.file}
    try:
        exec(code, space)  # noqa: S102 - the flow is the shop owner's own program, and runs in a process of its own
    except Exception as error:  # noqa: BLE001 - the door around the flow author's file
        raise FlowError(where(error, job.file)) from None
    return space


def _function(space: dict[str, Any], name: str, arguments: int, file: str) -> Any:
    found = space.get(name)
    if not inspect.iscoroutinefunction(found):
        raise FlowError(f"{file} has no `async def {name}({', '.join(('flow', 'order')[:arguments])})`")
    return found


def where(error: BaseException, file: str) -> str:
    """An error of the flow's own code, with the line that it comes from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    at = f"{file}:{lines[-1]}: " if lines else ""
    return f"{at}{type(error).__name__}: {error}" if not isinstance(error, FlowError) else f"{at}{error}"
