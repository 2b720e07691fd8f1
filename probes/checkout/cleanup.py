"""Cancelling the orders that a checkout has placed: by a program or a call of the owner's, each order by its number."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from probes import child
from probes.fields import Duration, SecretError, SecretField, Several, Table
from probes.scrub import scrub

ORDER = "{order}"
_HEADERS = {"User-Agent": "Tillwatch", "Accept": "application/json, */*"}
WITHIN = 60.0              # s for cancelling all orders together; what is left waits for the next run
_GONE = 410                # the order is not there any more: just as well
# A number comes out of a page of the shop. It must not be taken for an option, another path, or a piece of a query.
_NUMBER = re.compile(r"#?[A-Za-z0-9](?:[A-Za-z0-9._#/-]{0,62}[A-Za-z0-9])?")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f\x7f]", text)):
        raise ValueError("write the whole address, beginning with https:// or http://")
    if "@" in parts.netloc or "{" in parts.netloc:
        raise ValueError(f"neither a password nor {ORDER} can stand in the host: a token goes into bearer_token")
    return text


class CleanupSettings(Table):
    """[probe.cleanup]: how an order is cancelled. Exactly one of `command` and `url`."""

    command: Annotated[Several[str], Field(min_length=1), AfterValidator(child.program)] = Field(
        default=(), description="a program with its whole path, and its arguments one by one, {order} in one of them; no shell reads them")
    url: Annotated[str, AfterValidator(_url)] = Field(default="", description="called for each order, {order} in its path or query")
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="how url is called")
    bearer_token: SecretField | None = Field(default=None, description="sent with the call to url")
    timeout: Duration = Field(default=30.0, gt=0, le=300, description="for one order")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url: how an order is cancelled")
        if not any(ORDER in part for part in (*self.command[1:], self.url)):
            raise ValueError(f"nothing says which order: {ORDER} stands for its number")
        if self.command and (self.bearer_token or "method" in self.model_fields_set):
            raise ValueError("method and bearer_token belong to url")
        return self


async def cancel(settings: CleanupSettings, orders: Iterable[str], *, within: float = WITHIN) -> dict[str, str]:
    """Cancel these orders one after the other, in `within` s at most. Those that are still there, each with the reason. Only cancelling raises."""
    end, left = monotonic() + within, {}
    for order in dict.fromkeys(orders):
        seconds = min(settings.timeout, end - monotonic())
        why = await _cancelled(settings, order, seconds) if seconds > 0 else "no time was left"
        if why:
            left[order] = why
    return left


async def _cancelled(settings: CleanupSettings, order: str, seconds: float) -> str:
    """"" when it is, else why not."""
    if not _NUMBER.fullmatch(order) or ".." in order or "//" in order:
        return "this is not handed on, for it does not look like the number of an order"
    try:
        async with asyncio.timeout(seconds):
            return await (_run(settings, order) if settings.command else _call(settings, order))
    except TimeoutError:
        return f"not done within {seconds:.2g} s"
    except SecretError as error:
        return scrub(str(error), limit=200)
    except (ClientError, OSError, ValueError) as error:        # yarl and aiohttp raise ValueError for an address that cannot be
        return scrub(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}", limit=200)


async def _run(settings: CleanupSettings, order: str) -> str:
    name = Path(settings.command[0]).name
    if open_to := child.open_to_all(Path(settings.command[0])):
        return f"{name} is not run: everybody on this host can write to {open_to}"
    command = [settings.command[0], *(part.replace(ORDER, order) for part in settings.command[1:])]
    code, output = await child.run(command, b"", child.environment({"TILLWATCH_ORDER": order}))
    if code == 0:
        return ""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return scrub(f"{name} {ended}{f': {lines[-1]}' if lines else ''}", limit=200)


async def _call(settings: CleanupSettings, order: str) -> str:
    """Redirects are not followed: the token is for this host alone. Nothing of the answer is read but its status."""
    token = {"Authorization": f"Bearer {settings.bearer_token.reveal()}"} if settings.bearer_token else {}
    url = URL(settings.url.replace(ORDER, quote(order, safe="")), encoded=True)
    async with (
        ClientSession(timeout=ClientTimeout(total=None), cookie_jar=DummyCookieJar(), auto_decompress=False) as session,
        session.request(settings.method, url, headers={**_HEADERS, **token}, allow_redirects=False) as answer,
    ):
        return "" if 200 <= answer.status < 300 or answer.status == _GONE else f"HTTP {answer.status}"
