"""`tillwatch tell-failed`: every receiver hears that Tillwatch itself has stopped. Without a daemon and without its store.

systemd runs it (`OnFailure=`) when the daemon cannot be kept alive. The reason may be the configuration: so of that no more
is asked than the receivers, one by one, and a receiver that is wrong keeps no other from being told.
"""

import asyncio
import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import tomli
from aiohttp import ClientSession
from pydantic import ValidationError

from monitor import client as api
from monitor.alerts.delivery import DeliveryError, Message
from monitor.alerts.dispatch import Result, attempt
from monitor.alerts.page import Delivery, Facts, ShopFacts, compose
from monitor.alerts.post import open_session
from monitor.alerts.table import RECEIVERS, ReceiverSettings
from monitor.client import CommandError
from monitor.clock import Clock, new_id
from monitor.incidents import Incident

PAUSES = (1.0, 5.0, 15.0, 30.0, 60.0)      # s between attempts: the network may come back, or come at all, minutes after boot
_RESULTS = {"watchdog": "it hangs", "timeout": "it does not start or stop in time", "oom-kill": "it was killed for want of memory",
            "start-limit-hit": "it ends soon after every start"}


def tell(path: Path, unit: str) -> int:
    """Tell all receivers of the configuration that `unit` has failed, and print how each went: 0 when all know, 1 otherwise.

    Sent whatever a receiver's `on` says: nobody wants to be left out of this one. Raises CommandError when nobody can be told.
    """
    shop, receivers = salvage(path)
    if not receivers:
        raise CommandError(api.USAGE, f"{path} names no receiver that could be told")
    said = sentence(unit, socket.gethostname(), os.environ, _restarts(unit))
    results = asyncio.run(_tell_all(receivers, shop, said))
    for receiver, result in zip(receivers, results, strict=True):
        told = f"not delivered: {result.reason}" if isinstance(result, DeliveryError) else "delivered"
        click.echo(f"{receiver.name} ({receiver.kind}): {told}")
    return api.BAD if any(isinstance(result, DeliveryError) for result in results) else 0


def sentence(unit: str, host: str, environment: Mapping[str, str], restarts: int) -> str:
    """What has happened, in words. systemd tells the `OnFailure=` unit by $MONITOR_SERVICE_RESULT, ..._EXIT_CODE and ..._EXIT_STATUS."""
    result, status = environment.get("MONITOR_SERVICE_RESULT", ""), environment.get("MONITOR_EXIT_STATUS", "")
    codes = {"exit-code": f"exit code {status}", "signal": f"killed by {status}", "core-dump": f"killed by {status}"}
    parts = (unit, _RESULTS.get(result) or codes.get(result, result), f"{restarts} restarts did not help" if restarts else "")
    return f"Tillwatch itself has stopped on {host} ({', '.join(filter(None, parts))}): the shop is not watched"


def salvage(path: Path) -> tuple[ShopFacts, list[ReceiverSettings]]:
    """The shop and every receiver that is right, of a configuration that may be wrong elsewhere. Raises CommandError without TOML."""
    try:
        raw = tomli.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CommandError(api.USAGE, f"nobody could be told: {path}: {error}") from None
    found, shop = raw.get("receiver"), raw.get("shop")
    tables = [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []
    about = {key: str(value) for key, value in shop.items()} if isinstance(shop, dict) else {}
    facts = ShopFacts(about.get("name", "unnamed shop"), about.get("url", ""), about.get("environment", "production"))
    return facts, [receiver for table in tables if (receiver := _receiver(table, path.parent))]


def _receiver(table: Mapping[str, Any], base: Path) -> ReceiverSettings | None:
    kind = RECEIVERS.get(str(table.get("kind")))
    try:
        return kind.settings.model_validate(table, context={"base": base}) if kind else None
    except ValidationError:
        return None                            # check-config says what is wrong with it


def _restarts(unit: str) -> int:
    """How often systemd has tried; 0 when it cannot be asked."""
    command = ["systemctl", "show", "--property=NRestarts", "--value", "--", unit]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(text) if text.isdigit() else 0


async def _tell_all(receivers: list[ReceiverSettings], shop: ShopFacts, said: str) -> list[Result]:
    """All at once: one that does not answer keeps nobody waiting."""
    now = Clock().now()
    incident = Incident(id=new_id(now), kind="monitor_fault", cause="stopped", urgency="page", opened=now, began=now, said=said)
    async with open_session() as session:
        return await asyncio.gather(*(_insist(receiver, session, message(incident, receiver, shop, said, now)) for receiver in receivers))


def message(incident: Incident, receiver: ReceiverSettings, shop: ShopFacts, said: str, now: float) -> Message:
    """The page, without a link: what it would lead to is down."""
    page = compose(incident, Facts(shop), Delivery(receiver.name, receiver.runbook), now)
    first = "on that host: systemctl status, journalctl --unit, tillwatch check-config; then systemctl reset-failed and start"
    page = replace(page, sentence=said, first=first, cost="nothing; until it runs again nobody watches the shop", why="systemd gave it up", link="")
    return Message(incident.id, "firing", incident, page)


async def _insist(receiver: ReceiverSettings, session: ClientSession, message: Message) -> Result:
    """Until it is taken, or would never be. What is refused for good is tried once more with the least that helps."""
    result = await attempt(receiver, session, message)
    for pause in PAUSES:
        if not isinstance(result, DeliveryError) or (result.permanent and message.minimal):
            break
        message = replace(message, minimal=message.minimal or result.permanent, settled=(*message.settled, *result.settled))
        await asyncio.sleep(max(pause, min(result.retry_after or 0.0, 60.0)))
        result = await attempt(receiver, session, message)
    return result
