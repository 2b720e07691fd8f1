"""The shop's database, as far as its visitors can tell: a wait that is never twice the same."""

import asyncio
import math
import random

SPREAD = 0.3        # sigma of the logarithm: one query in forty takes 1.8 times the median or more


async def query(median: float) -> None:
    """Waits for one log-normal answer time; `median` in ms."""
    await asyncio.sleep(median / 1000 * math.exp(random.gauss(0.0, SPREAD)))
