"""What shows to a person why a run failed: a picture, the page's text, and what went before. Nothing secret is in it, and it takes 3 s at most."""

import asyncio
import html
import json
import re
from collections.abc import Sequence
from time import monotonic

from playwright.async_api import Error, Locator, Page

from probes.checkout.addresses import shown
from probes.checkout.record import Recorder
from probes.scrub import redact, scrub

Artifact = tuple[str, str, bytes]        # its kind, the ending of its name, what is in it

_ALL, _SHOT, _HTML = 3.0, 1.5, 1.0       # s
_CLEANING = 0.6                          # s for taking out of a page what is secret; what was not reached by then is left out
_LARGEST = 500_000                       # characters of a page's text
_PIECE = 8192                            # characters that are scrubbed at a time
_MOST_MASKED = 20                        # secrets whose places on the page are covered
# Whatever was typed; frames, as a payment provider's fields are in one; and what a shop calls private.
_MASKED = "input, textarea, select, [contenteditable], iframe, frame, object, embed, [data-private]"
_CARD_OR_MAIL = re.compile(r"(?:\d[ -]?){13,19}|[\w.+-]{1,64}@[\w-]{1,63}\.")

# Left out with all that is in it. Serialised HTML has its names in lower case and closes what it opens.
_LEFT_OUT = ("script", "style", "textarea", "noscript", "svg", "iframe", "template")
_VALUES = re.compile(r"\s(?:value|nonce|integrity|srcdoc|style|d)=\"[^\"]*\"")
_TOKEN_META = re.compile(r"<meta\s[^<>]{0,300}(?:token|csrf|nonce|verification|key)[^<>]{0,600}>", re.IGNORECASE)
# What the usual scrubbing does not know by its name: hidden fields and data attributes.
_HIDDEN = re.compile(
    r"((?:csrf|xsrf|nonce|form_?key|token|session|secret|hash)[\w-]{0,40}[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[^\s\"',;<>{}&]{4,400}", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]{2,}|(?:[ \t]*\r?\n){2,}")


async def collect(page: Page, recorder: Recorder, *, step: str, words: str, secrets: Sequence[str] = (), locator: str = "") -> list[Artifact]:
    """Of a step that went wrong in the way of `words`: ("details", "json"), ("screenshot", "png") and ("page", "txt"), each where it can be had.

    At most 3 s, and only cancelling raises.
    """
    hidden, until = tuple(secrets), monotonic() + _ALL
    found: list[Artifact] = [("details", "json", _details(page, recorder, step, words, locator, hidden))]
    if shot := await _screenshot(page, hidden, _SHOT):
        found.append(("screenshot", "png", shot))
    text = await recorder.vitals.html(page, min(_HTML, until - monotonic()))
    if text:
        found.append(("page", "txt", await asyncio.to_thread(page_text, text, hidden, within=min(_CLEANING, until - monotonic()))))
    return found


async def _screenshot(page: Page, secrets: tuple[str, ...], within: float) -> bytes:
    """What can be seen of the page, with everything covered that was typed or looks like a card or a mail address; b"" when it cannot be had."""
    try:
        async with asyncio.timeout(within):
            return await page.screenshot(
                type="png", mask=_masks(page, secrets), mask_color="#777777", animations="disabled", timeout=within * 1000, scale="css")
    except (Error, TimeoutError):
        return b""


def _masks(page: Page, secrets: tuple[str, ...]) -> list[Locator]:
    known = [page.get_by_text(secret) for secret in dict.fromkeys(secrets) if len(secret) >= 3]
    return [page.locator(_MASKED), page.get_by_text(_CARD_OR_MAIL), *known[:_MOST_MASKED]]


def _details(page: Page, recorder: Recorder, step: str, words: str, locator: str, secrets: tuple[str, ...]) -> bytes:
    told = {
        "step": scrub(step, secrets), "error": scrub(words, secrets, limit=2000), "locator": scrub(locator, secrets),
        "url": shown(page.url, secrets), "findings": [scrub(one.text or one.name, secrets) for one in recorder.findings() if one.step == step][:40],
        "console": recorder.console_tail(), "requests": recorder.network_tail(),
    }
    return json.dumps(told, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


def page_text(text: str, secrets: tuple[str, ...] = (), *, within: float = _CLEANING) -> bytes:
    """A page's HTML without scripts and without anything that was typed, scrubbed. UTF-8, at most 500,000 characters."""
    until = monotonic() + within
    for name in _LEFT_OUT:
        text = _without(text, f"<{name}", f"</{name}>")
    text = _TOKEN_META.sub("", _VALUES.sub("", _without(text, "<!--", "-->")))
    text = _BLANKS.sub(lambda found: "\n" if "\n" in found[0] else " ", html.unescape(text))
    kept, length, at = [], 0, 0
    while at < len(text) and length < _LARGEST:
        if monotonic() > until:
            kept.append("\n[the rest is left out]")
            break
        end = _end(text, at)
        kept.append(_HIDDEN.sub(r"\1[hidden]", redact(text[at:end], secrets, ips=True)))
        length, at = length + len(kept[-1]), end
    return "".join(kept)[:_LARGEST].encode("utf-8", "backslashreplace")


def _end(text: str, at: int) -> int:
    """Where a piece ends: before a tag, so that no secret is cut in two."""
    if at + _PIECE >= len(text):
        return len(text)
    for sign in ("<", "\n", " "):
        if (end := text.rfind(sign, at + 1, at + _PIECE)) > at:
            return end
    return at + _PIECE


def _without(text: str, begin: str, end: str) -> str:
    """The text without what stands between the two, and without them. What is not closed is left out to its end."""
    if begin not in text:
        return text
    kept, at = [], 0
    while (start := text.find(begin, at)) >= 0:
        kept.append(text[at:start])
        found = text.find(end, start)
        if found < 0:
            return "".join(kept)
        at = found + len(end)
    return "".join([*kept, text[at:]])
