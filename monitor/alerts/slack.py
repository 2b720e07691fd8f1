"""Slack, by an incoming webhook; Mattermost and others that speak its language too.

A message of a webhook cannot be changed afterwards: the end of an incident is a message of its own.
"""

from typing import ClassVar, Literal

from aiohttp import ClientSession
from pydantic import Field

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import encode
from monitor.alerts.post import http_url, post
from probes.fields import ConfigPath, SecretError, SecretField

TEXT_LIMIT = 3_800  # characters, before escaping; Slack shows up to 4,000 of a message well
_SIGNS = {"resolved": "\N{WHITE HEAVY CHECK MARK}", "acknowledged": "\N{EYES}", "notice": "\N{INFORMATION SOURCE}"}
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class SlackSettings(ReceiverSettings):
    """kind = "slack" """

    hears_acks: ClassVar[bool] = True  # a channel wants to know that somebody is at it
    per_minute: ClassVar[float] = 60.0  # one a second and channel

    kind: Literal["slack"]
    url: SecretField = Field(description="the address of the incoming webhook; whoever knows it can write to the channel")
    ca_file: ConfigPath | None = Field(default=None, description="trust this authority instead of the system's")


async def send(settings: SlackSettings, session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Write into the channel. Only the answer `ok` says that it is there."""
    try:
        url = http_url(settings.url.reveal())
    except SecretError as error:
        return DeliveryError(str(error), code="secret")
    except ValueError:
        return DeliveryError("the address of a Slack webhook begins with https://", code="secret")
    # link_names stays off: "@channel" in evidence wakes nobody. mrkdwn too: evidence is shown as it is.
    payload = encode({"text": text(message), "link_names": False, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False})
    return await post(session, url, payload, ca_file=settings.ca_file, secrets=(url,), wanted="ok")


def text(message: Message) -> str:
    """The page behind its sign and title, with the three characters escaped that mean something to Slack."""
    page = message.page
    words = page.brief() if message.minimal else f"{_sign(message)} {page.title}\n{_more(message)}"
    return words[:TEXT_LIMIT].translate(_ESCAPED)


def _more(message: Message) -> str:
    page = message.page
    if message.what == "acknowledged":  # the channel has the rest already
        return f"Acknowledged by: {page.acked_by}\n{page.link}".rstrip()
    # The sentence stands in the title already, unless it was too long for that.
    return page.text().removeprefix(f"{page.sentence}.\n\n" if page.sentence in page.title else "")


def _sign(message: Message) -> str:
    if message.page.drill:
        return "\N{TEST TUBE}"
    if message.what in _SIGNS:
        return _SIGNS[message.what]
    return "\N{LARGE RED CIRCLE}" if message.page.urgency == "page" else "\N{LARGE ORANGE CIRCLE}"
