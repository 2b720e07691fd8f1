"""What this installation must reach: names, certificates, receivers, the heartbeat, witnesses, the daemon itself. No message is sent."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from monitor.config import Config, Probe
from monitor.doctor.finding import Finding, Result
from monitor.doctor.host import is_locked
from monitor.uplink import Address, address, answers, is_near
from monitor.witnesses import addresses, dialled, endpoints, shop_hosts, witnesses
from probes.clients import FAMILIES, Clients, TlsFileError, TlsSettings
from probes.connector import AddressInfo, connect, handshake
from probes.faults import Fault, explain

SECONDS = 6.0              # for one address, its name and its certificate included
AT_ONCE = 32
SOON_DAYS = 14.0


class Reach:
    """Connects to addresses, a few at a time, and says in words what went wrong."""

    def __init__(self, clients: Clients) -> None:
        self._clients, self._places = clients, asyncio.Semaphore(AT_ONCE)

    async def resolve(self, host: str, port: int) -> list[AddressInfo] | Fault:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._clients.resolver.resolve(host, port, FAMILIES["any"])
        except TimeoutError:
            return Fault("dns_timeout", f"the name servers did not answer within {SECONDS:.0f} s")
        except OSError as error:
            return explain(error, "resolve")

    async def connect(self, place: Address, tls: TlsSettings | None = None, name: str = "") -> float | Fault:
        """When the certificate expires (Unix s; 0 without TLS), or why it is not reached. `name` is the one in the certificate."""
        async with self._places:
            phase = "connect"
            found = await self.resolve(*place)
            if isinstance(found, Fault):
                return found
            try:
                async with asyncio.timeout(SECONDS):
                    context = await self._clients.context(tls) if tls else None
                    sock = await connect(found)
                    if context is None:
                        sock.close()
                        return 0.0
                    phase = "tls"
                    with await handshake(sock, context, name or place[0]) as secure:
                        return self._clients.expiry(secure)
            except TimeoutError:
                return Fault("timeout", f"no answer within {SECONDS:.0f} s")
            except TlsFileError as error:
                return Fault("settings", str(error))
            except OSError as error:
                return explain(error, phase)


async def daemon(config: Config, _reach: Reach) -> AsyncIterator[Finding]:
    """Does one run here, and is it well?"""
    name, locked = "daemon", await asyncio.to_thread(is_locked, config)
    said = await _health(config)
    at = config.web.local
    if isinstance(said, str):
        if locked:
            yield Finding(name, "fault", f"one holds the state directory, and does not answer at {at}: {said}",
                          "look at its log; if it hangs, kill it")
        else:
            yield Finding(name, "warning", "none is running", "tillwatch run, once all is well")
    elif not locked:
        yield Finding(name, "fault", f"another program answers at {at}", "stop it, or listen elsewhere: [web] listen")
    elif said.get("healthy"):
        yield Finding(name, "ok", f"it runs, and is healthy ({at})")
    else:
        bad = ", ".join(f"{key} {value}" for key, value in said.items() if key not in {"healthy", "ready"} and value != "ok")
        yield Finding(name, "fault", f"it runs, and says that it is not healthy: {bad or 'without a reason'}", "look at its log")


async def _health(config: Config) -> dict[str, Any] | str:
    """What answers at the daemon's address, or why nothing does."""
    tls = config.web.tls
    try:
        trust: Any = await asyncio.to_thread(ssl.create_default_context, cafile=tls.cert_file) if tls else True
        async with ClientSession(timeout=ClientTimeout(total=SECONDS)) as session, \
                session.get(URL(config.web.local) / "-" / "healthy", ssl=trust, allow_redirects=False) as answer:
            said = await answer.json(content_type=None)
    except (ClientError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


async def receivers(config: Config, reach: Reach) -> AsyncIterator[Finding]:
    """Each receiver, and the heartbeat."""
    found: list[tuple[str, list[str], TlsSettings]] = []
    for receiver in config.receiver:
        places = [f"{'tls' if getattr(receiver, 'tls', '') == 'tls' else 'tcp'}://{_joined(place)}" for place in endpoints(receiver)]
        web = [url for url in addresses(receiver) if url.startswith("https:")]
        found.append((f'receiver "{receiver.name}"', [*places, *web], _trust(receiver)))
    if config.heartbeat:
        found.append(("heartbeat", list(addresses(config.heartbeat)), TlsSettings()))
    for finding in await asyncio.gather(*(_reached(reach, *one) for one in found)):
        if finding:
            yield finding


def _trust(receiver: Any) -> TlsSettings:
    """Whom a receiver's own settings say to trust."""
    file: Path | None = getattr(receiver, "ca_file", None)
    return TlsSettings.model_validate({"ca_file": str(file)}) if file else TlsSettings()


def _joined(place: Address) -> str:
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"


async def _reached(reach: Reach, name: str, urls: Sequence[str], tls: TlsSettings) -> Finding | None:
    """Of an address only host and port are told: the rest may be its key."""
    secure = {address(url): url.startswith(("https:", "tls:")) for url in urls}
    if not secure:
        return None
    results = await asyncio.gather(*(reach.connect(place, tls if wrapped else None) for place, wrapped in secure.items()))
    bad = [f"{_joined(place)}: {result.words}" for place, result in zip(secure, results, strict=True) if isinstance(result, Fault)]
    if not bad:
        return Finding(name, "ok", "reached at " + ", ".join(map(_joined, secure)))
    some = len(bad) < len(secure)
    return Finding(name, "warning" if some else "fault", "cannot be reached at " + "; ".join(bad),
                   "check the address and this machine's firewall; then tillwatch test-alert sends a drill")


async def names(config: Config, reach: Reach) -> AsyncIterator[Finding]:
    """Does every host of a probe have an address, and is it another machine's than this one's?"""
    hosts = dict.fromkeys((place[0] for probe in config.probe for place in dialled(probe)), "")
    results = dict(zip(hosts, await asyncio.gather(*(reach.resolve(host, 0) for host in hosts)), strict=True))
    bad = {host: result.words for host, result in results.items() if isinstance(result, Fault)}
    for host, words in bad.items():
        yield Finding("names", "fault", f"{host}: {words}", "check the spelling, and the name servers in /etc/resolv.conf")
    if not bad:
        yield Finding("names", "ok", f"every host of a probe has an address ({len(hosts)})")
    shop = {host: result for host, result in results.items() if host in shop_hosts(config) and not isinstance(result, Fault)}
    here = sorted(host for host, result in shop.items() if _is_here(host, result))
    if here:
        yield Finding("apart from the shop", "warning", f"the shop ({', '.join(here)}) runs on this machine: when that dies, nobody is left to tell",
                      "run Tillwatch on another machine, or have a [heartbeat] outside")
    elif shop:
        yield Finding("apart from the shop", "ok", "the shop runs on another machine")


def _is_here(host: str, found: Iterable[AddressInfo]) -> bool:
    return is_near(host) or any(is_own(info[4][0]) for info in found)


def is_own(ip: str) -> bool:
    """Is that address one of this machine's? Only to those can a socket be bound."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
            endpoint.bind((ip, 0))
    except OSError:
        return False
    return True


async def certificates(config: Config, reach: Reach) -> AsyncIterator[Finding]:
    """The certificate of each https probe, by a handshake alone: nothing is asked for."""
    asked = {(dialled(p)[0], _secure(p)): p for p in config.probe if getattr(p, "url", "").startswith("https:")}
    results = await asyncio.gather(*(reach.connect(place, tls, name) for place, (tls, name) in asked))
    found = []
    for (((host, _), (tls, _)), probe), result in zip(asked.items(), results, strict=True):
        if isinstance(result, Fault):
            if not result.reason.startswith("dns"):              # said with the names
                grave: Result = "fault" if result.reason.startswith("tls") else "warning"
                mend = f"tillwatch probe {probe.name} says more"
                found.append(Finding("certificates", grave, f"{host} (probe {probe.name}): {result.words}", mend))
        elif result and (days := (result - time.time()) / 86400) < max(SOON_DAYS, tls.min_days_left):
            found.append(Finding("certificates", "warning", f"that of {host} expires in {days:.0f} days", "renew it"))
    if any(isinstance(result, float) for result in results):
        found = found or [Finding("certificates", "ok", f"valid for {SOON_DAYS:.0f} days at least ({len(asked)})")]
    for finding in found:
        yield finding


def _secure(probe: Probe) -> tuple[TlsSettings, str]:
    """How to shake hands, and which name to ask for: that of the URL, wherever `connect_to` leads."""
    tls: TlsSettings = getattr(probe, "tls", TlsSettings())
    return tls, tls.server_name or address(getattr(probe, "url", ""))[0]


async def uplink(config: Config, reach: Reach) -> AsyncIterator[Finding]:
    """Could this monitor tell a lost network of its own from an outage of the shop?"""
    name, known = "uplink", witnesses(config)
    mend = 'set [daemon] uplink = ["1.1.1.1:53", "9.9.9.9:53"], or other addresses that always answer'
    if not known:
        if not all(is_near(host) for host in shop_hosts(config)):
            yield Finding(name, "warning", "a lost network of this machine would look like an outage of the shop: there is no witness", mend)
        return
    heard = [place for place, answered in zip(known, await asyncio.gather(*(_answers(reach, place) for place in known)), strict=True) if answered]
    if not heard:
        yield Finding(name, "warning", f"none of {len(known)} witnesses answers, so a lost network could not be told from an outage", mend)
    elif len(heard) == 1:
        yield Finding(name, "warning", f"only {_joined(heard[0])} answers: should it fail together with the shop, the outage stays hidden", mend)
    else:
        yield Finding(name, "ok", f"{len(heard)} of {len(known)} witnesses answer")


async def _answers(reach: Reach, place: Address) -> bool:
    found = await reach.resolve(*place)
    if isinstance(found, Fault):
        return False
    try:
        async with asyncio.timeout(SECONDS):
            return await answers(found)
    except (OSError, TimeoutError):
        return False
