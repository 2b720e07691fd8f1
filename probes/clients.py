"""What probes share: TLS contexts and the resolver; and what one of them keeps open between its runs."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Container, Sequence
from functools import cache
from time import monotonic
from typing import Any, Protocol, Self, TypeVar, cast, runtime_checkable

import aiodns
import pycares.errno as ares
from pydantic import Field, model_validator

from probes.certs import chain, earliest_expiry
from probes.connector import AddressInfo
from probes.fields import ConfigPath, Table

_DNS_HASTY = 1.0            # s for the first attempt at a look-up, see Resolver
_DNS_PATIENT = 3.5          # s for the second one
_DNS_CHANNEL = 4.0          # s for which one c-ares channel is used
_DNS_OLD = 12.0             # s until the queries of a channel that is no longer used have surely ended
_EXPIRY_TRUSTED = 3600.0    # s for which the expiry of a chain is remembered by its leaf
_EXPIRY_KEPT = 10_000       # chains

_CANNOT_ASK = frozenset({ares.ARES_ECONNREFUSED, ares.ARES_ENOMEM, ares.ARES_ENOTINITIALIZED, ares.ARES_EFILE})

FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class TlsSettings(Table):
    """tls = { ... }: whom to trust and who to be. Without it: the operating system's trust store, no client certificate."""

    ca_file: ConfigPath | None = Field(default=None, description="PEM file of the authorities to trust instead of the system's")
    cert_file: ConfigPath | None = Field(default=None, description="client certificate (PEM)")
    key_file: ConfigPath | None = Field(default=None, description="its private key, unless cert_file holds it too")
    server_name: str = Field(default="", description="name to ask for and to find in the certificate, not the URL's host")
    insecure_skip_verify: bool = Field(default=False, description="accept any certificate")
    min_days_left: int = Field(default=0, ge=0, le=3650, description="fails when the certificate expires sooner")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file: name the certificate that belongs to the key")
        if self.insecure_skip_verify and self.ca_file:
            raise ValueError("ca_file and insecure_skip_verify contradict each other: leave one out")
        return self


class UnresolvedError(OSError):
    """A host name could not be resolved; `code` is c-ares's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code

    @property
    def timed_out(self) -> bool:
        """Whether the name servers were silent, as opposed to answering that there is no address."""
        return self.code == int(ares.ARES_ETIMEOUT)

    @property
    def unreachable(self) -> bool:
        """Whether this machine could not even ask."""
        return self.code in _CANNOT_ASK


class TlsFileError(Exception):
    """A file that a probe's TLS settings name cannot be used."""


@runtime_checkable
class Closable(Protocol):
    """What a probe keeps open between its runs."""

    async def close(self) -> None:
        """Let go of everything."""


C = TypeVar("C", bound=Closable)
M = TypeVar("M")


class Clients:
    """Shared means of probes; an async context manager, entered once by whoever runs them.

    `nameservers` ("address" or "address:port") replace those of /etc/resolv.conf.
    """

    def __init__(self, nameservers: Sequence[str] = ()) -> None:
        self.resolver = Resolver(nameservers)
        self._contexts: dict[object, tuple[object, asyncio.Future[ssl.SSLContext]]] = {}
        self._expiry: dict[bytes, tuple[float, float]] = {}
        self._kept: dict[str, tuple[object, Closable]] = {}       # by probe: its settings, and what it keeps
        self._means: dict[type, Any] = {}                         # what only some kinds of probe need, by its type

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.resolver.close()
        await self.retain(())
        for means in self._means.values():
            if isinstance(means, Closable):
                await means.close()
        for known in self._contexts.values():
            known[1].cancel()
        self._contexts.clear()

    def provide(self, kind: type[M], means: M) -> None:
        """From now on, `find(kind)` gives this. What it replaces is closed by whoever provided it."""
        self._means[kind] = means

    def find(self, kind: type[M]) -> M | None:
        """What was provided of this type, such as the link to the browser worker."""
        return cast("M | None", self._means.get(kind))

    async def keep(self, probe: str, settings: object, make: Callable[[], C]) -> C:
        """What this probe keeps open: made at its first run, and anew, the old one closed, when its settings are others."""
        known = self._kept.get(probe)
        if known is None or known[0] != settings:
            self._kept[probe] = settings, make()
            if known:
                await known[1].close()
        return cast("C", self._kept[probe][1])

    async def retain(self, probes: Container[str]) -> None:
        """Close what probes other than these keep."""
        for probe in [probe for probe in self._kept if probe not in probes]:
            await self._kept.pop(probe)[1].close()

    async def context(self, tls: TlsSettings) -> ssl.SSLContext:
        """The TLS context for these settings: built once, and anew when one of its files has changed.

        Raises TlsFileError. Loading the system's authorities takes 20 ms of CPU, so it is done in a thread.
        """
        key = (tls.ca_file, tls.cert_file, tls.key_file, tls.insecure_skip_verify)
        version = tuple(map(_version, _files(tls)))
        known = self._contexts.get(key)
        if known is None or known[0] != version or (known[1].done() and (known[1].cancelled() or known[1].exception())):
            loop = asyncio.get_running_loop()
            known = self._contexts[key] = version, loop.run_in_executor(None, build_context, tls)
        building = known[1]
        return building.result() if building.done() else await asyncio.shield(building)

    def expiry(self, sock: ssl.SSLSocket) -> float:
        """Unix time at which the first certificate of the server's chain expires, 0 when unknown."""
        leaf = sock.getpeercert(binary_form=True) or b""
        found, until = self._expiry.get(leaf, (0.0, 0.0))
        now = monotonic()
        if until < now:
            if len(self._expiry) >= _EXPIRY_KEPT:
                self._expiry.clear()
            found = earliest_expiry(chain(sock))
            self._expiry[leaf] = found, now + _EXPIRY_TRUSTED
        return found


def _files(tls: TlsSettings) -> Sequence[str | os.PathLike[str]]:
    store = (tls.ca_file,) if tls.ca_file else _system_store()
    return [path for path in (*store, tls.cert_file, tls.key_file) if path]


@cache
def _system_store() -> tuple[str | None, str | None]:
    """Where the operating system keeps the authorities that it trusts: a file and a folder."""
    places = ssl.get_default_verify_paths()
    return places.cafile, places.capath


def _version(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 a microsecond on every run of a TLS probe; pathlib costs three
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def build_context(tls: TlsSettings) -> ssl.SSLContext:
    """A TLS 1.2+ client context, speaking HTTP/1.1. Raises TlsFileError, which names the file and not its content."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise TlsFileError(f"ca_file {tls.ca_file}: {_why(error)}") from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except OSError as error:
            raise TlsFileError(f"cert_file {tls.cert_file} with key_file {tls.key_file}: {_why(error)}") from None
    # Not classic Diffie-Hellman, which no browser offers any more: a server could choose numbers so large that the
    # handshake keeps the processor for a second (CVE-2022-40735).
    context.set_ciphers(":".join(cipher["name"] for cipher in context.get_ciphers() if cipher["kea"] != "kx-dhe"))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "not a certificate or key in PEM form, or the two do not belong together"
    return error.strerror or "cannot be read"


class Resolver:
    """Host names to addresses, without a thread pool that one dead name server could fill.

    c-ares keeps answers for their TTL, and pycares gives no way to switch that off. A look-up is part of what is
    measured, so a channel is used for four seconds only, and kept until its last query has ended.

    Look-ups that share a channel can harm each other. c-ares learns from quick answers to wait no more than 0.25 s, in
    which a name that is not in the name server's cache cannot be found; of a name whose IPv4 address it gave up waiting
    for it then says that there is none, or has its IPv6 address only; and a garbled answer or a silent TCP connection
    fails whatever else was asked over the same socket. Therefore only an IPv4 address, or one of the family asked for,
    counts at once: otherwise the name is asked for again, alone and patiently.
    """

    def __init__(self, nameservers: Sequence[str] = ()) -> None:
        self._nameservers = list(nameservers) or None
        self._channels: deque[tuple[float, aiodns.DNSResolver]] = deque()      # when begun; the last one is used

    def _fresh(self) -> aiodns.DNSResolver:
        now, channels = monotonic(), self._channels
        if not channels or now - channels[-1][0] > _DNS_CHANNEL:
            channels.append((now, self._channel(_DNS_HASTY)))
            while now - channels[0][0] > _DNS_CHANNEL + _DNS_OLD:
                channels.popleft()
        return channels[-1][1]

    def _channel(self, seconds: float) -> aiodns.DNSResolver:
        return aiodns.DNSResolver(self._nameservers, timeout=seconds, tries=1)

    async def resolve(self, host: str, port: int, family: int) -> list[AddressInfo]:
        """Addresses to dial, the best first. Raises UnresolvedError, after 4.5 s at the latest."""
        with contextlib.suppress(UnresolvedError):
            found = await _look_up(self._fresh(), _DNS_HASTY, host, port, family)
            if family or any(info[0] == socket.AF_INET for info in found):
                return found
        alone = self._channel(_DNS_PATIENT)
        try:
            return await _look_up(alone, _DNS_PATIENT, host, port, family)
        finally:
            await alone.close()

    async def close(self) -> None:
        """End all look-ups."""
        while self._channels:
            await self._channels.pop()[1].close()


async def _look_up(channel: aiodns.DNSResolver, seconds: float, host: str, port: int, family: int) -> list[AddressInfo]:
    """One attempt. c-ares itself may wait five times as long as answers took of late, so it is ended from here."""
    try:
        async with asyncio.timeout(seconds):
            found = await channel.getaddrinfo(host, port=port, family=socket.AddressFamily(family), type=socket.SOCK_STREAM)
    except TimeoutError:
        raise UnresolvedError(int(ares.ARES_ETIMEOUT), f"{host}: no answer in time") from None
    except aiodns.error.DNSError as error:
        raise UnresolvedError(error.args[0], f"{host}: {error.args[1]}") from None
    # c-ares hands out (address, port) or (address, port, flow, scope), with the address in bytes
    return [
        (node.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (node.addr[0].decode(), *node.addr[1:]))
        for node in found.nodes
    ]
