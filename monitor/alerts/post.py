"""One POST to a receiver over HTTP, and what its answer means."""

import asyncio
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from time import time
from typing import Annotated

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from pydantic import AfterValidator
from yarl import URL

from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError
from probes.scrub import scrub

# The same again would be refused again. Everything else that is not 2xx may pass by itself: 3xx too, a gateway in
# maintenance sends them.
PERMANENT = frozenset({400, 401, 403, 404, 405, 410, 411, 413, 414, 415, 422, 431})
LONGEST_WAIT = 600.0
SHORTEST_KEY = 12
_ANSWER_BYTES = 512


def http_url(text: str) -> str:
    """The text, if it is an address over HTTP; else ValueError."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host or any(c.isspace() for c in text):
        raise ValueError("write an address that begins with http:// or https://")
    return text


HttpUrl = Annotated[str, AfterValidator(http_url)]


def open_session() -> ClientSession:
    """A session for one receiver: no cookies, no decoding of answers, and a new connection for each of the rare messages."""
    return ClientSession(
        connector=TCPConnector(force_close=True, limit=0),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        timeout=ClientTimeout(total=TIMEOUT),
        headers={"User-Agent": "Tillwatch"},
    )


async def post(
    session: ClientSession,
    url: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    ca_file: Path | None = None,
    secrets: tuple[str, ...] = (),
    wanted: str = "",
) -> Delivered | DeliveryError:
    """Send `body`. Delivered on 2xx only, and where the answer is `wanted` in so many words, on nothing else.

    Redirects are not followed. Of the address only the host is ever told.
    """
    host = URL(url).host or ""
    secrets = (*secrets, *_hidden_in(url))
    try:
        async with session.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", **(headers or {})},
            allow_redirects=False,
            ssl=_trust(ca_file) if ca_file else True,
        ) as response:
            return await _read(response, host, secrets, wanted)
    except (TimeoutError, asyncio.IncompleteReadError):
        return DeliveryError(f"{host} did not answer within {TIMEOUT:.0f} s", code="timeout")
    except (ClientError, OSError, ValueError) as error:
        # The text of an error can hold the whole address, and some addresses are secrets: only its kind is told.
        cause = getattr(error, "os_error", None) or error
        return DeliveryError(f"{host} could not be reached: {_named(cause)}", code="connect")


def _hidden_in(url: str) -> tuple[str, ...]:
    """The parts of an address that may be its key: many webhooks have no other."""
    parts = URL(url)
    return tuple(p for p in (*parts.parts, *parts.query.values(), parts.password or "") if len(p) >= SHORTEST_KEY)


async def _read(response: ClientResponse, host: str, secrets: tuple[str, ...], wanted: str) -> Delivered | DeliveryError:
    fine = 200 <= response.status < 300
    if fine and not wanted:
        return Delivered(f"{response.status}")
    answer = await response.content.read(_ANSWER_BYTES)
    while fine and len(answer) < _ANSWER_BYTES and not response.content.at_eof():  # a short word can come in pieces
        answer += await response.content.read(_ANSWER_BYTES - len(answer))
    if fine and answer.strip() == wanted.encode():
        return Delivered(f"{response.status}")
    said = scrub(answer.decode("utf-8", errors="replace"), secrets, limit=200)
    return DeliveryError(
        f"{host} answered {response.status}{f': {said}' if said else ''}",
        permanent=fine or response.status in PERMANENT,
        retry_after=_retry_after(response.headers.get("Retry-After", "")),
        code="answer" if fine else str(response.status),
    )


def _retry_after(text: str) -> float | None:
    """The header's seconds or date, as s from now, never longer than ten minutes."""
    try:
        seconds = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError, IndexError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _named(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return (error.strerror if isinstance(error, OSError) and error.strerror else "") or type(error).__name__


@lru_cache(maxsize=32)
def _trust(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))
