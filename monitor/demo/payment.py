"""Taking money, in play: the one card that is accepted is the test card that every payment provider documents."""

import re
import secrets

from monitor.demo import payment_gateway
from monitor.demo.database import query
from monitor.demo.releases import Release

TEST_CARD = "4242424242424242"
CHARGE_MS = 16.0


async def charge(card: str, cents: int, release: Release, frictionless: float) -> str | None:
    """The reference of the payment, or None when the card is refused. Raises what a faulty gateway raises."""
    if re.sub(r"[ -]", "", card) != TEST_CARD:
        return None
    if release.new_gateway:
        return await payment_gateway.charge(cents, frictionless)
    await query(CHARGE_MS)
    return f"ch_{secrets.token_hex(8)}"
