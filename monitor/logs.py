"""Logs on stderr: one JSON object a line for machines, or coloured text for a terminal."""

import logging
import sys
from typing import Literal

import structlog

from probes.scrub import scrub

Format = Literal["auto", "json", "console"]


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
        _scrubbed,
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)] if text
        else [_traces, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=shared + last, wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s", force=True)


def _without_nothing(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _scrubbed(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: scrub(value) if isinstance(value, str) else value for key, value in event.items()}
