"""A page as one JSON document, and the ways to make it as small as its receiver wants it. Pure.

{"type": …, "timestamp": …, "data": {…}}: what a webhook is sent and a command reads; docs/alerts.md has every field.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitor.alerts.delivery import Message
from monitor.clock import iso

LIMIT = 20_000  # bytes, as Standard Webhooks recommends
# What goes first when a document would be larger than that.
_DROPPED = ("text", "members", "evidence", "works", "told", "update", "do_first", "why")


def body(message: Message) -> bytes:
    """The document, at most 20 kB: what helps least is left out first."""
    page = message.page
    for data in _smaller(message):
        payload = encode({"type": kind(message), "timestamp": iso(page.now), "data": data})
        if len(payload) <= LIMIT:
            break
    return payload


def kind(message: Message) -> str:
    """What happened, as machines tell it apart."""
    if message.page.drill:
        return "test"
    return "notice" if message.what == "notice" else f"incident.{message.what}"


def encode(value: Any) -> bytes:
    """JSON in UTF-8; a lone surrogate becomes a question mark, for no text may cost a page."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def shortened(data: Mapping[str, Any], dropped: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`data` whole, then without the first of the `dropped` parts, without the first two, and so on."""
    yield dict(data)
    for number in range(1, len(dropped) + 1):
        yield {name: part for name, part in data.items() if name not in dropped[:number]} | {"shortened": True}


def cut(text: str, limit: int) -> str:
    """The beginning of a text, at most `limit` bytes of UTF-8, never with half a character at its end."""
    raw = text.encode("utf-8", errors="replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[: limit - len("…".encode())].decode("utf-8", errors="ignore") + "…"


def _smaller(message: Message) -> Iterator[dict[str, Any]]:
    page = message.page
    if not message.minimal:
        yield from shortened(page.data() | {"title": page.title, "text": page.text(), "drill": page.drill}, _DROPPED)
    least = {"incident": page.incident, "kind": page.kind, "state": page.state, "shop": {"name": page.shop.name}}
    yield least | {"text": page.brief(), "drill": page.drill, "shortened": True}
