"""The page that came instead of the shop's, in the form in which bot walls and maintenance pages are known."""

import asyncio

from multidict import CIMultiDict
from playwright.async_api import Error, Response
from yarl import URL

from probes.faults import Fault
from probes.http_exchange import Answer, Hop
from probes.http_pages import maintenance, wall


async def body_of(response: Response, within: float) -> bytes:
    """The body, b"" when it cannot be had in `within` s: a page that was left has none any more."""
    try:
        return await asyncio.wait_for(response.body(), within)
    except (Error, TimeoutError):
        return b""


def as_answer(response: Response, body: bytes) -> Answer:
    """What the plain probes make of an answer."""
    url = URL(response.url[:2048], encoded=True)
    hop = Hop(url, "GET", url.host or "", 0, None, tls=False, server_name="", request=b"")
    return Answer(hop, response.status, "", 1.1, CIMultiDict(response.headers), body)


def special(answer: Answer) -> Fault | None:
    """Whether a bot wall or a maintenance page answered; None when it is the shop itself."""
    if name := wall(answer):
        return Fault("challenged", f"{name} kept this monitor out: allow its address or user agent (HTTP {answer.status})")
    if how := maintenance(answer):
        return Fault("maintenance", f"{how} (HTTP {answer.status})")
    return None
