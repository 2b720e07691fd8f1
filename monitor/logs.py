"""Logs on stderr: one JSON object a line for machines, or coloured text for a terminal. No secret gets there, by whatever way.

Not by our own events, not by those of libraries (`logging`, asyncio's debug mode, warnings), not by a traceback: local variables
are never shown, and all texts go through the scrubber.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import structlog

from probes.scrub import redact, scrub

Format = Literal["auto", "json", "console"]

TEXT_LIMIT = 2000           # characters of one value
DEEPEST = 8                 # levels of lists and dicts within an event that are looked into
TRACE_LIMIT = 64_000        # characters of a traceback, the newest frames

# Without the local variables of each frame: they hold secrets.
_traces = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(form: Format, level: int = logging.INFO) -> None:
    """Set structlog up. `auto` is text on a terminal and JSON elsewhere."""
    text = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_nothing,
    ]
    last: list[structlog.typing.Processor] = (
        [_scrubbed, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_trace)] if text
        else [_traces, _scrubbed, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=shared + last, wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Scrubbing("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


class _Scrubbing(logging.Formatter):
    """What libraries log, their tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record)[-TRACE_LIMIT:])


def _trace(kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None) -> str:
    return redact("".join(traceback.format_exception(kind, error, frames))[-TRACE_LIMIT:])


def _uncaught(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    sys.stderr.write(_trace(kind, error, frames))


def _uncaught_in_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_type is not SystemExit:
        sys.stderr.write(f"in the thread {what.thread.name if what.thread else '?'}: {_trace(what.exc_type, what.exc_value, what.exc_traceback)}")


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    sys.stderr.write(f"{what.err_msg or 'ignored'}: {_trace(what.exc_type, what.exc_value, what.exc_traceback)}")


def _plain_trace(stream: Any, error: structlog.typing.ExcInfo) -> None:
    stream.write("\n" + _trace(*error))


def _without_nothing(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _scrubbed(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value if key == "exc_info" else _clean(value, 0) for key, value in event.items()}


def _clean(value: Any, depth: int) -> Any:
    """The value with every text in it scrubbed. What is no text, number, list or dict is shown as text: a path can hold a token too."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if depth < DEEPEST and isinstance(value, Mapping):
        return {scrub(str(key)): _clean(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, depth + 1) for item in value]
    return scrub(str(value), limit=TEXT_LIMIT)
