"""The card gateway that release 2.0 moves to, with the bug that makes 2.0 a bad release.

Whoever wrote it tried it with a card whose bank asks for a challenge. For the others, the frictionless ones, the
gateway's answer has no "three_ds" at all.
"""

import random
import secrets
from typing import Any

from monitor.demo.database import query

AUTHORISE_MS = 16.0


async def charge(cents: int, frictionless: float) -> str:
    """The reference of the payment; fails with KeyError for the share `frictionless` of them."""
    answer = await _authorise(cents, frictionless)
    return _reference(answer)


async def _authorise(cents: int, frictionless: float) -> dict[str, Any]:
    await query(AUTHORISE_MS)
    answer = {"id": f"pi_{secrets.token_hex(8)}", "amount": cents, "currency": "eur", "status": "authorised"}
    if random.random() < frictionless:
        return answer
    return answer | {"three_ds": {"version": "2.2", "status": "Y"}}


def _reference(answer: dict[str, Any]) -> str:
    challenge = answer["three_ds"]
    return f"{answer['id']}-{challenge['status']}"
