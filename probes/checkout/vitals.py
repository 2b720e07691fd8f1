"""What a document tells of itself: how quickly it came, what it calls itself, which scripts stand in it. Web vitals in seconds.

What the page answers is hostile until it has been through `parsed`.
"""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from playwright.async_api import Error, Page

_SCRIPT = Path(__file__).with_name("vitals.js")
_READ = "name => window[name] ? window[name]('read', %d) : ''"     # ms; a list of arguments could be spoilt by the page
_HTML = "name => window[name] ? window[name]('html') : ''"
_LONGEST = 200_000         # characters of an answer
_SLOWEST = 3600.0          # s
_SHIFTIEST = 1000.0        # of CLS
_HASH = re.compile(r"(\d{1,10})\.(\d{1,10}) (.{0,200})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a document. A vital that was not measured is 0; CLS has no unit."""

    document: str                        # its name: another for each document
    ttfb: float = 0.0
    fcp: float = 0.0
    lcp: float = 0.0
    inp: float = 0.0
    cls: float = 0.0
    bytes: int = 0                       # that came over the network for it until now, as far as its hosts tell
    title: str = ""
    headings: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    printed: tuple[str, ...] = ()        # see soft_errors
    noindex: bool = False
    scripts: tuple[tuple[str, str], ...] = ()      # (hash, how it begins) of the inline ones


class Vitals:
    """The script that goes into every document of a context, and what asks it. Its name is another for each run."""

    def __init__(self) -> None:
        self._name = f"tw{token_hex(8)}"
        self.script = _SCRIPT.read_text(encoding="utf-8").replace("__NAME__", self._name)

    async def read(self, page: Page, loading: float, within: float) -> Reading | None:
        """The document that the page shows, two frames after it was loaded or after `loading` s.

        None when it goes on to another one meanwhile, does not answer in `within` s, or nonsense.
        """
        return parsed(await self._ask(page, _READ % (1000 * loading), within))

    async def html(self, page: Page, within: float) -> str:
        """The document's HTML as it is now, at most 1.5 million characters; "" when it does not answer in `within` s. Not scrubbed."""
        told = await self._ask(page, _HTML, within)
        return told[:1_500_000] if isinstance(told, str) else ""

    async def _ask(self, page: Page, expression: str, within: float) -> object:
        try:
            return await asyncio.wait_for(page.evaluate(expression, self._name), within)
        except (Error, TimeoutError):
            return None


def parsed(told: object) -> Reading | None:
    """What a document told; None when that cannot be it."""
    if not isinstance(told, str) or not told or len(told) > _LONGEST:
        return None
    try:
        data = json.loads(told)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(name := data.get("document"), str) or not re.fullmatch(r"[\d-]{3,60}", name):
        return None
    robots = " ".join(_texts(data, "robots", 100)).lower()
    ttfb, fcp, lcp, inp = (_number(data.get(key), _SLOWEST * 1000) / 1000 for key in ("ttfb", "fcp", "lcp", "inp"))
    return Reading(
        name, ttfb, fcp, lcp, inp, _number(data.get("cls"), _SHIFTIEST),
        bytes=int(_number(data.get("sent"), 2.0**40) + _number(data.get("bytes"), 2.0**40)),
        title=_text(data.get("title"), 300),
        headings=_texts(data, "headings", 200), alerts=_texts(data, "alerts", 300), printed=_texts(data, "printed", 200),
        noindex=bool(re.search(r"\b(?:noindex|none)\b", robots)),
        scripts=tuple(map(_script, filter(None, map(_HASH.fullmatch, _texts(data, "scripts", 200, 80))))))


def _script(found: re.Match[str]) -> tuple[str, str]:
    return f"{int(found[1]):08x}{int(found[2]):08x}"[:12], found[3]


def _number(value: object, most: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= most
    return float(value) if usable else 0.0           # type: ignore[arg-type]


def _text(value: object, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _texts(data: Mapping[str, Any], key: str, longest: int, most: int = 20) -> tuple[str, ...]:
    """A list of texts; the page writes it as an object with numbers for keys, because it may have laid hands on lists."""
    found = data.get(key)
    return tuple(_text(value, longest) for value in list(found.values())[:most]) if isinstance(found, dict) else ()
