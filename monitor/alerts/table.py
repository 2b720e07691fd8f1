"""RECEIVERS: every kind of receiver, and the only list of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from monitor.alerts import alertmanager, command, email, ntfy, pagerduty, slack, webhook
from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings

__all__ = ["RECEIVERS", "Kind", "ReceiverSettings", "Send"]

Send = Callable[[Any, ClientSession, Message], Awaitable[Delivered | DeliveryError]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its settings, and the one function that delivers a message by them.

    How it wants to be told (`resends`, `tells_missed`, `keeps`) stands in the settings class, beside what it sets.
    """

    settings: type[ReceiverSettings]
    send: Send


RECEIVERS: dict[str, Kind] = {
    "alertmanager": Kind(alertmanager.AlertmanagerSettings, alertmanager.send),
    "pagerduty": Kind(pagerduty.PagerDutySettings, pagerduty.send),
    "webhook": Kind(webhook.WebhookSettings, webhook.send),
    "email": Kind(email.EmailSettings, email.send),
    "ntfy": Kind(ntfy.NtfySettings, ntfy.send),
    "slack": Kind(slack.SlackSettings, slack.send),
    "command": Kind(command.CommandSettings, command.send),
}
