"""`tillwatch test-alert`: a marked drill through one receiver, or through all."""

import asyncio
import json
from typing import Any

import click

from monitor import client as api
from monitor.alerts.delivery import DeliveryError
from monitor.alerts.dispatch import DRILL_HOLD, test_alert
from monitor.alerts.page import Facts, ShopFacts
from monitor.alerts.table import ReceiverSettings
from monitor.client import CommandError
from monitor.clock import Clock
from monitor.config import Config


def send(config: Config, name: str | None, *, as_json: bool) -> int:
    """Send the drills one after the other and say how each went: 0 when all were taken, 1 otherwise."""
    wanted = [r for r in config.receiver if name in {None, r.name}]
    if not wanted:
        known = ", ".join(r.name for r in config.receiver) or "none"
        text = f"there is no receiver {name!r}; there are: {known}" if name else "there is no [[receiver]] in the configuration"
        raise CommandError(api.USAGE, text)
    facts = Facts(ShopFacts(config.shop.name, config.shop.url, config.shop.environment), base=config.web.base)
    results = asyncio.run(_all(wanted, facts, quiet=as_json))
    if as_json:
        click.echo(json.dumps({"drills": results}, indent=2))
    return 0 if all(result["delivered"] for result in results) else api.BAD


async def _all(receivers: list[ReceiverSettings], facts: Facts, *, quiet: bool) -> list[dict[str, Any]]:
    """All at once: one that does not answer, or must be told of the end, keeps nobody waiting."""
    if not quiet and not all(r.tells_missed for r in receivers):
        click.echo(f"Who keeps states is told of the end too, {DRILL_HOLD:.0f} s later.", err=True)
    return await asyncio.gather(*(_one(receiver, facts, quiet=quiet) for receiver in receivers))


async def _one(receiver: ReceiverSettings, facts: Facts, *, quiet: bool) -> dict[str, Any]:
    result = await test_alert(receiver, facts, Clock())
    error = result.reason if isinstance(result, DeliveryError) else ""
    if not quiet:
        click.echo(f"{receiver.name} ({receiver.kind}): " + (f"not delivered: {error}" if error else "delivered"))
    return {"receiver": receiver.name, "kind": receiver.kind, "delivered": not error, "error": error}
