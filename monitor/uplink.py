"""Has this monitor lost its own network? Then nothing can be said of the shop, and nobody is told that it is down.

Witnesses are addresses that are configured anyway and are not the shop: control probes, receivers, the heartbeat, `[daemon] uplink`.
While all is well each is connected to every five minutes, so that it is known which of them answer from here. When a run fails as it
would without a network, they are asked at once: if none of those that answered last does now, the network is lost. Without a witness it
never is: an outage that is not told is worse than one that is told wrongly. For the same reason a page of the shop that answers meanwhile
is a witness too: then the others were silent for reasons of their own, and are believed again only when they have answered again.
"""

import asyncio
import errno
import math
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

import structlog

from monitor.clock import Clock
from probes.clients import FAMILIES, Resolver
from probes.connector import AddressInfo, connect
from probes.sample import Outcome, Sample

log = structlog.get_logger()

Address = tuple[str, int]

ROUND_SECONDS = 300.0      # between two rounds while all is well
GAP_SECONDS = 5.0          # between two rounds otherwise
ASK_SECONDS = 2.0          # for one witness, its name included
SETTLE_SECONDS = 2.0       # after the network is found again; neighbours that were given up are looked for anew within that time
STAGGER_SECONDS = 0.2      # between two witnesses of a quiet round
NETWORK = frozenset({"dns", "dns_timeout", "connect_timeout", "connect_failed", "tls_protocol", "timeout", "disconnected", "local_network"})
_OK, _BROKEN = Outcome.OK, Outcome.BROKEN            # every run comes by, and pays for each look into an enum
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))      # RFC 5737, RFC 3849: nobody's, so reached by the default route only


def address(text: str) -> Address:
    """Host and port of "host:port" or of a web address. Raises ValueError."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if not parts.hostname or not port or any(character.isspace() for character in text):
        raise ValueError('write "host:port", such as "1.1.1.1:53", or a web address')
    return parts.hostname, port


def is_lost(answered: Collection[Address], witnesses: Collection[Address], *, routeless: bool) -> bool:
    """Is the network lost? `witnesses` answered in the last good round, `answered` do now; `routeless`: the default route has gone since."""
    return not answered and (routeless or bool(witnesses))


class Uplink:
    """Knows whether the network is lost: `lost`, since when (Unix s), and asks while `run()` runs.

    `near` names the probes whose host is this machine: the network has no part in how they fare.
    """

    def __init__(self, addresses: Iterable[Address], clock: Clock, near: Collection[str] = ()) -> None:
        self._addresses, self._clock, self._near = tuple(addresses), clock, frozenset(near)
        self._witnesses: frozenset[Address] = frozenset()
        self._doubt = asyncio.Event()
        self._routed = False
        self._asked, self._elsewhere = math.inf, False      # since when (Unix s) it is in doubt; whether a run that began since was answered
        self._back = -math.inf                              # when (Unix s) it was last found again
        self.since: float | None = None

    @property
    def lost(self) -> bool:
        return self.since is not None

    @property
    def witnesses(self) -> frozenset[Address]:
        """Whoever answered in the last round during which the network was there."""
        return self._witnesses

    def change(self, addresses: Iterable[Address], near: Collection[str] = ()) -> None:
        """Go on with other witnesses, after a reload."""
        self._addresses, self._near = tuple(addresses), frozenset(near)
        self._witnesses &= frozenset(self._addresses)
        self._doubt.set()

    def note(self, sample: Sample) -> bool:
        """Hear of a run, however it ended. True when it failed for want of our own network, and not by the shop's doing. Never blocks."""
        if sample.outcome is _BROKEN or sample.probe in self._near:
            return False
        if sample.outcome is _OK or sample.reason not in NETWORK:
            self._answered(sample.started)
            return False
        if self.since is None:
            self._doubt.set()
            if self._routed and not has_route():
                self._begin()
                self._rule(frozenset())
        return self.lost or sample.started < self._back + SETTLE_SECONDS      # it began before the network was whole again

    def _begin(self) -> None:
        self._asked, self._elsewhere = self._clock.now(), False

    def _answered(self, started: float) -> None:
        """A run that began then (Unix s) reached somebody out there: what is lost meanwhile is found."""
        if started <= self._asked:
            return
        self._elsewhere = True
        if self.since is not None:
            self._rule(frozenset())
            self._doubt.set()                            # a witness that is back shall be known soon

    async def run(self) -> None:
        """Ask until cancelled."""
        self._resolver = Resolver()
        self._routed = has_route()
        try:
            while True:
                self._rule(await self._ask(0.0 if self._doubt.is_set() or self.lost else STAGGER_SECONDS))
                await asyncio.sleep(GAP_SECONDS)
                await self._doubted(0.0 if self.lost else ROUND_SECONDS - GAP_SECONDS)
        finally:
            await self._resolver.close()

    async def _doubted(self, seconds: float) -> None:
        """Return when there is doubt, or after so many s; whatever was doubted until now is answered by the round that follows."""
        try:
            async with asyncio.timeout(seconds):
                await self._doubt.wait()
        except TimeoutError:
            return

    async def _ask(self, stagger: float) -> frozenset[Address]:
        """Who answers, of all witnesses."""
        self._doubt.clear()
        if not self.lost:
            self._begin()
        asked = self._addresses
        answers = await asyncio.gather(*(self._answers(address, number * stagger) for number, address in enumerate(asked)))
        return frozenset(address for address, answered in zip(asked, answers, strict=True) if answered)

    async def _answers(self, address: Address, wait: float) -> bool:
        await asyncio.sleep(wait)
        host, port = address
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = _outside(await self._resolver.resolve(host, port, FAMILIES["any"]))
                return bool(found) and await answers(found)
        except (OSError, TimeoutError):              # no such name, or silence
            return False

    def _rule(self, answered: frozenset[Address]) -> None:
        routed = has_route()
        lost = not self._elsewhere and is_lost(answered, self._witnesses, routeless=self._routed and not routed)
        if answered or self._elsewhere:
            self._witnesses = answered
        if not lost:
            self._routed = routed
        if lost and self.since is None:
            self.since = self._clock.now()
            log.warning("this monitor has lost its network", witnesses=len(self._witnesses), route=routed)
        elif not lost and self.since is not None:
            log.info("this monitor has its network again", seconds=round(self._clock.now() - self.since, 1))
            self.since, self._back = None, self._clock.now()


async def answers(addresses: list[AddressInfo]) -> bool:
    """Does anybody answer at one of these addresses? A refusal is an answer: somebody out there gave it. Raises OSError."""
    try:
        (await connect(addresses)).close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error)
    return True


def has_route() -> bool:
    """Has this machine a way into the wide world? By asking the kernel where it would send a datagram; none is sent.

    Not by /proc/net/route: a hardened unit cannot see it.
    """
    return any(_routed(family, address) for family, address in _FAR)


def _routed(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
            endpoint.connect((address, 9))
    except OSError:
        return False
    return True


def _outside(addresses: list[AddressInfo]) -> list[AddressInfo]:
    """Without this machine's own: it answers itself, network or not."""
    return [info for info in addresses if not is_near(info[4][0])]


def is_near(host: str) -> bool:
    """Is that host name or address this very machine, as far as the name tells?"""
    bare = host.strip("[]").lower()
    return bare in {"localhost", "::1", "0.0.0.0", "::"} or bare.startswith(("127.", "::ffff:127.")) or bare.endswith(".localhost")  # noqa: S104
