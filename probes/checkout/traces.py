"""Playwright's trace of a run, without anything that was typed or read.

A trace as Playwright writes it has every value that was filled in, what scripts returned, headers and cookies. So none leaves here as it is:
each line is written anew from what is known to be harmless (which call, on which element, when, and how it ended), and whatever else is in
the file is left behind. The raw one lies in the temp directory of the worker, which nobody else can read, until the run is over.
"""

import asyncio
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Error

from probes.checkout.addresses import shown
from probes.scrub import scrub

_LARGEST = 16 * 1024 * 1024        # bytes of a raw trace that is read
_MOST_LINES = 20_000
_LIMIT = 300                       # characters of a text in it
_PLAIN = (int, float, bool)

# What is kept of a line as it is, by its type. Lines of other types are left out: snapshots, films, what was printed.
_KEPT: dict[str, tuple[str, ...]] = {
    "context-options": ("version", "origin", "browserName", "playwrightVersion", "platform", "wallTime", "monotonicTime", "sdkLanguage",
                        "testIdAttributeName", "contextId"),
    "before": ("callId", "startTime", "class", "method", "parentId", "stepId", "pageId"),
    "after": ("callId", "endTime", "point"),
    "log": ("callId", "time"),
    "input": ("callId", "point", "box"),
    "event": ("time", "class", "method", "pageId"),
    "console": ("messageType", "time", "pageId"),
}
_PARAMS = ("timeout", "state", "strict", "waitUntil", "button", "clickCount", "pageId", "openerPageId", "hidden", "visible", "force")
_OPTIONS = ("viewport", "deviceScaleFactor", "isMobile", "hasTouch", "locale", "baseURL")
_TALKATIVE = ("waiting for ", "  waiting for ", "attempting ", "retrying ", "  element is ", "  scrolling ", "  done scrolling", "  performing ")


async def start(context: BrowserContext) -> bool:
    """Begin to trace; whether it could be begun."""
    try:
        await context.tracing.start(screenshots=False, snapshots=False, sources=False)
    except Error:
        return False
    return True


async def stop(context: BrowserContext, secrets: tuple[str, ...] = (), *, within: float = 2.0) -> list[tuple[str, str, bytes]]:
    """End it: [("trace", "zip", what Playwright's viewer opens)], or nothing when it cannot be had in `within` s. Only cancelling raises."""
    with tempfile.TemporaryDirectory(prefix="trace", ignore_cleanup_errors=True) as folder:
        raw = Path(folder) / "raw.zip"
        try:
            async with asyncio.timeout(within):
                await context.tracing.stop(path=raw)
                told = await asyncio.to_thread(rewritten, raw, secrets)
        except (Error, OSError, TimeoutError):
            return []
    return [("trace", "zip", told)] if told else []


def rewritten(raw: Path, secrets: tuple[str, ...] = ()) -> bytes:
    """A trace without what is not known to be harmless; b"" when it is none, is too large, or a secret is in it nevertheless."""
    try:
        with zipfile.ZipFile(raw) as archive:
            names = [info.filename for info in archive.infolist() if info.filename.endswith(".trace") and info.file_size <= _LARGEST]
            texts = {name: archive.read(name).decode("utf-8", "replace") for name in names[:3]}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return b""
    done = {f"{number or ''}trace.trace".lstrip("0"): _lines(text, secrets) for number, text in enumerate(texts.values())}
    if not any(done.values()) or any(secret in text for secret in secrets if len(secret) > 3 for text in done.values()):
        return b""
    with io.BytesIO() as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in done.items():
                archive.writestr(name, text)
                archive.writestr(name.replace(".trace", ".network"), "")
        return out.getvalue()


def _lines(text: str, secrets: tuple[str, ...]) -> str:
    kept = []
    for line in text.splitlines()[:_MOST_LINES]:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and (harmless := _harmless(event, secrets)):
            kept.append(json.dumps(harmless))
    return "\n".join([*kept, ""]) if kept else ""


def _harmless(event: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, Any] | None:
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in _KEPT:
        return None
    line: dict[str, Any] = {"type": kind} | {name: _simple(event[name], secrets) for name in _KEPT[kind] if name in event}
    params = event.get("params")
    if kind in ("before", "event"):
        line["params"] = _params(params, secrets) if isinstance(params, Mapping) else {}
    elif kind == "context-options":
        options = event.get("options")
        line["options"] = {name: _simple(options[name], secrets) for name in _OPTIONS if name in options} if isinstance(options, Mapping) else {}
    elif kind == "after" and isinstance(error := event.get("error"), Mapping):
        line["error"] = {"name": _text(error.get("name"), secrets), "message": _text(error.get("message"), secrets).partition("Call log")[0]}
    elif kind == "log":
        line["message"] = _message(event.get("message"), secrets)
    elif kind == "console":
        where = event.get("location")
        url = where.get("url") if isinstance(where, Mapping) else ""
        line |= {"text": _text(event.get("text"), secrets), "args": [],
                 "location": {"url": shown(url, secrets) if isinstance(url, str) else "", "lineNumber": 0, "columnNumber": 0}}
    return line


def _params(params: Mapping[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """Which element and which address; never what was typed into it."""
    kept = {name: _simple(params[name], secrets) for name in _PARAMS if name in params}
    if "selector" in params:
        kept["selector"] = _text(params["selector"], secrets)
    if isinstance(url := params.get("url"), str):
        kept["url"] = shown(url, secrets)
    return kept


def _message(message: object, secrets: tuple[str, ...]) -> str:
    """A line of Playwright's log of a call. Only those that speak of waiting are kept whole; others quote what is typed, and elements."""
    if not isinstance(message, str):
        return ""
    if message.startswith(_TALKATIVE):
        return _text(message, secrets)
    ends = [at for sign in "(\"'<" if (at := message.find(sign)) >= 0]
    return _text(message[:min(ends, default=60)], secrets)


def _simple(value: object, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _text(value, secrets)
    if isinstance(value, Mapping):
        return {str(name)[:40]: one for name, one in list(value.items())[:10] if isinstance(one, _PLAIN)}
    return value if isinstance(value, _PLAIN) else None


def _text(value: object, secrets: tuple[str, ...]) -> str:
    return scrub(value, secrets, limit=_LIMIT) if isinstance(value, str) else ""
