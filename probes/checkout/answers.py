"""JSON that says failure although the status says success, as AJAX checkouts answer. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

LARGEST = 64 * 1024        # bytes of an answer that is read
_FAILURE = frozenset(("error", "errors", "failure", "failed", "fail", "ko", "exception"))
_NOTHING = frozenset(("", "0", "false", "no", "none", "null", "ok", "success", "undefined"))
_NESTED = ("data", "result", "response", "payment_result", "payload")
_TOLD = ("message", "messages", "error_message", "error_messages", "detail", "title", "error", "errors", "warning", "reason", "code")
_TAG = re.compile(r"<[^<>]{0,300}>")
_MOST_ITEMS = 20


def failure(body: bytes) -> tuple[str, str] | None:
    """How an answer says that it failed ('success is false'), and its own words for it; None when it does not or is no JSON."""
    if len(body) > LARGEST:
        return None
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    items = told[:_MOST_ITEMS] if isinstance(told, list) else [told]
    for item in items:
        if isinstance(item, Mapping) and (how := _how(item) or _inside(item)):
            return how, _words(item)
    return None


def _how(told: Mapping[str, Any]) -> str:
    for name in ("success", "ok", "successful"):
        if told.get(name) is False or _text(told.get(name)) == "false":
            return f"{name} is false"
    for name in ("status", "result", "payment_status", "state", "type"):
        word = _text(told.get(name))
        if word in _FAILURE:
            return f"{name} is {word}"
    for name in ("status", "statusCode", "status_code"):
        if _is_status(told.get(name)) and any(key in told for key in ("message", "error", "errors", "title", "detail")):
            return f"{name} is an error's"
    return next((f"{name} is not empty" for name in ("errors", "error", "exception") if _says(told.get(name))), "") or (
        "hasError is true" if told.get("hasError") is True else "")


def _inside(told: Mapping[str, Any]) -> str:
    """One level deeper: what wraps its answer, and batches of answers."""
    for name in _NESTED:
        inner = told.get(name)
        if isinstance(inner, Mapping) and (how := _how(inner)):
            return f"{name}: {how}"
    batch = told.get("responses")
    if isinstance(batch, list) and any(isinstance(one, Mapping) and _is_status(one.get("status")) for one in batch[:_MOST_ITEMS]):
        return "one of responses failed"
    return ""


def _says(value: object) -> bool:
    """Whether an error is told: no empty list, no "none", no list of empty lists."""
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    if isinstance(value, Mapping):
        return any(_says(one) for one in list(value.values())[:_MOST_ITEMS])
    if isinstance(value, list):
        return any(_says(one) or isinstance(one, int) for one in value[:_MOST_ITEMS])
    return value is True


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599


def _text(value: object) -> str:
    return value.strip().lower()[:40] if isinstance(value, str) else ""


def _words(told: object, depth: int = 3) -> str:
    """What the answer says of its failure, without mark-up; not scrubbed."""
    if isinstance(told, str):
        return " ".join(_TAG.sub(" ", told[:1000]).split())[:300]
    if depth and isinstance(told, list):
        return next(filter(None, (_words(one, depth - 1) for one in told[:_MOST_ITEMS])), "")
    if depth and isinstance(told, Mapping):
        known = [told[name] for name in (*_TOLD, *_NESTED) if name in told] or list(told.values())[:_MOST_ITEMS]
        return next(filter(None, (_words(one, depth - 1) for one in known)), "")
    return ""
