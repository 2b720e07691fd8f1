"""The `http` probe: one request on a fresh connection, redirects followed, the answer compared with the expected one."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from time import time
from typing import Annotated, Any, Literal, Self

from aiohttp import ClientError, encode_basic_auth
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator
from yarl import URL

from probes.clients import FAMILIES, Clients, TlsFileError, TlsSettings
from probes.connector import AddressInfo, Stopwatch, Wire, connect, handshake
from probes.faults import Fault, explain, overdue
from probes.fields import Named, Secret, SecretError, SecretField, Size, Table
from probes.http_exchange import Answer, Hop, Request, Trail, forbidden
from probes.http_expect import Expect, Expectations, expectations
from probes.http_pages import maintenance, wall
from probes.reasons import outcome
from probes.sample import Sample
from probes.scrub import scrub

# What the network and what answers may raise; anything else is an error of ours and flies.
_EXPECTED = (OSError, ClientError, HttpProcessingError)
_BREATH = 262_144           # bytes of a body after which others get their turn on the event loop
_FRAMING = 1_000_000        # bytes that may come besides the body: headers at their largest
_DAY = 86_400.0

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLACE = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/\[\]\x00-\x1f]+)):([0-9]{1,5})")
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "te", "upgrade", "expect", "trailer", "keep-alive"}


def _web_address(text: str) -> str:
    if _CONTROL.search(text) or " " in text:
        raise ValueError("a web address has no spaces or line breaks")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError as error:
        raise ValueError(f'"{text}" is not a web address: {error}') from None
    if url.scheme not in ("http", "https"):
        raise ValueError("write the whole address, beginning with https:// or http://")
    if not host or not port:
        raise ValueError("the address has no host name; write it like https://shop.example/")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("a password in the address would show up everywhere; use basic_auth = { username, password }")
    return text


def _headers(value: object, info: ValidationInfo) -> Mapping[str, str | Secret]:
    if not isinstance(value, dict):
        raise ValueError('write headers as a table, such as { Accept-Language = "de" }')  # noqa: TRY004 for pydantic
    return {name: _header(name, given, info) for name, given in value.items()}


def _header(name: str, value: object, info: ValidationInfo) -> str | Secret:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f'"{name}" cannot be the name of a header: only letters, digits and - are usual')
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"the header {name} is set by the probe itself; leave it out")
    if isinstance(value, dict):
        return Secret.model_validate(value, context=info.context)
    if not isinstance(value, str):
        raise ValueError(f"write the value of the header {name} as a string")  # noqa: TRY004 for pydantic
    if _CONTROL.search(value.replace("\t", " ")):
        raise ValueError(f"the value of the header {name} must not contain line breaks or control characters")
    return value


def _place(text: str) -> str:
    _split_place(text)
    return text


def _split_place(text: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text)
    if not found or not 0 < int(found[3]) < 65536:
        raise ValueError('write it as "host:port", such as "10.0.0.5:443" or "[2001:db8::5]:443"')
    return found[1] or found[2], int(found[3])


Headers = Annotated[
    Mapping[str, str | Secret],
    BeforeValidator(_headers),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "object"]}}),
]


def _user_name(text: str) -> str:
    if ":" in text or _CONTROL.search(text):
        raise ValueError("a user name has no colon and no line break")
    return text


class Login(Table):
    """basic_auth = { username = "...", password = { env = "..." } }"""

    username: Annotated[str, AfterValidator(_user_name)] = Field(description="without a colon")
    password: SecretField = Field(description="belongs to the user name")


class HttpSettings(Named):
    """kind = "http": one web address, asked for as a customer's browser would, without scripts and pictures."""

    url: Annotated[str, AfterValidator(_web_address)] = Field(description="the whole address, without a password in it")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(default="GET", description="of the first request")
    headers: Headers = Field(default={}, description='a value may be a secret such as { env = "NAME" }')
    body: str = Field(default="", description="what a POST, PUT or PATCH sends")
    basic_auth: Login | None = Field(default=None, description="user name and password")
    bearer_token: SecretField | None = Field(default=None, description="sent as Authorization: Bearer ...")
    follow_redirects: bool = Field(default=True, description="false: the first answer is the answer")
    max_redirects: int = Field(default=5, ge=0, le=20, description="more of them fail")
    ip_family: Literal["any", "ipv4", "ipv6"] = Field(default="any", description="which addresses of the host to try")
    connect_to: Annotated[str, AfterValidator(_place)] | None = Field(
        default=None, description="connect to this host:port; the request and the certificate keep the URL's host name",
    )
    max_body: Size = Field(default=2_000_000, ge=1, le=100_000_000, description="a larger page, unpacked, fails")
    expect: Expect = Field(default=Expect(), description="what a right answer looks like")
    tls: TlsSettings = Field(default=TlsSettings(), description="whom to trust and who to be")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        logins = [name for name in ("basic_auth", "bearer_token") if getattr(self, name)]
        logins += [f"the header {name}" for name in self.headers if name.lower() == "authorization"]
        if len(logins) > 1:
            raise ValueError(f"{' and '.join(logins)} contradict each other: keep one")
        if self.body and self.method in ("GET", "HEAD", "OPTIONS"):
            raise ValueError(f'a {self.method} request sends no body; set method = "POST" or leave out body')
        if self.expect.max_duration is not None and self.expect.max_duration >= self.timeout:
            raise ValueError("expect.max_duration must be shorter than timeout, or it is never reached")
        return self

    @cached_property
    def plan(self) -> "Plan":
        """The settings compiled, once: request bytes, patterns, secrets. Raises SecretError."""
        headers, secrets = self._credentials()
        place = _split_place(self.connect_to) if self.connect_to else None
        request = Request(
            url=URL(self.url).with_fragment(None),
            method=self.method,
            headers=headers,
            body=self.body.encode(),
            server_name=self.tls.server_name,
            connect_to=place,
            max_redirects=self.max_redirects,
        )
        return Plan(request, request.first(), expectations(self.expect), secrets)

    def _credentials(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """The headers to send, and what in them must not be seen."""
        secrets, headers = [], []
        for name, value in self.headers.items():
            text = _sendable(value.reveal(), f"the header {name}") if isinstance(value, Secret) else value
            headers.append((name, text))
            if isinstance(value, Secret) or name.lower() in ("authorization", "cookie"):
                secrets.append(text)
        if self.basic_auth:
            secrets.append(self.basic_auth.password.reveal())
            headers.append(("Authorization", encode_basic_auth(self.basic_auth.username, secrets[-1], "utf-8")))
        if self.bearer_token:
            secrets.append(_sendable(self.bearer_token.reveal(), "bearer_token"))
            headers.append(("Authorization", f"Bearer {secrets[-1]}"))
        return tuple(headers), tuple(secrets)


def _sendable(text: str, what: str) -> str:
    # A secret is only known at run time: a line break in it would smuggle in further headers.
    if _CONTROL.search(text):
        raise SecretError(f"{what} contains a line break or control character")
    return text


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs of its settings, in the form in which it needs it."""

    request: Request
    first: Hop
    expectations: Expectations
    secrets: tuple[str, ...]


@dataclass(slots=True)
class _Run:
    """What one run has found out so far."""

    settings: HttpSettings
    plan: Plan
    clients: Clients
    watch: Stopwatch
    answer: Answer | None = None
    redirects: int = 0
    tls: bool = False
    expiry: float = 0.0


async def probe(settings: HttpSettings, clients: Clients, checkpoint: bytes | None = None) -> Sample:  # noqa: ARG001
    """Ask once.

    The sample's `values` are the phases resolve, connect, tls, processing (until the first byte) and transfer in s, each
    summed over redirects; `seconds` is all of it, from the look-up to the last byte. `checkpoint` is not used.
    """
    try:
        plan = settings.plan
    except SecretError as error:
        return _unready(settings, str(error))
    run = _Run(settings, plan, clients, Stopwatch())
    try:
        async with asyncio.timeout(settings.timeout):
            fault = await _ask(run)
    except TimeoutError:
        fault = overdue(run.watch.phase, settings.timeout)
    except TlsFileError as error:
        return _unready(settings, str(error))
    seconds = run.watch.stop()
    return _sample(run, fault or _judged(run, seconds), seconds)


async def _ask(run: _Run) -> Fault | None:
    """Follow the redirects to the last answer, which `run` then holds."""
    hop, trail = run.plan.first, None
    while True:
        found = await _exchange(run, hop)
        if isinstance(found, Fault):
            return found
        if not (run.settings.follow_redirects and found.leads_on()):
            return None
        if trail is None:
            trail = Trail()
            trail.visit(hop.method, hop.url, run.plan.request.headers)
        following = run.plan.request.after(found, trail)
        if isinstance(following, Fault):
            return following
        hop, run.answer = following, None
        run.redirects = trail.hops
        run.watch.enter("resolve")


async def _exchange(run: _Run, hop: Hop) -> Answer | Fault:
    """One request and its answer on a connection of its own. Of a redirect that is followed the body is not read."""
    wire: Wire | None = None
    try:
        addresses = await _addresses(run, hop)
        if isinstance(addresses, Fault):
            return addresses
        wire = await _connected(run, hop, addresses)
        wire.write(hop.request)
        message, stream = await wire.head()
        run.watch.enter("transfer", at=wire.heard)
        version = message.version.major + message.version.minor / 10
        answer = run.answer = Answer(hop, message.code, message.reason or "", version, message.headers)
        if run.settings.follow_redirects and answer.leads_on():
            return answer
        answer.body, whole = await _body(stream, run.settings.max_body)
        return answer if whole else Fault("too_large", f"the page is larger than {run.settings.max_body} bytes")
    except _EXPECTED as error:
        return explain((wire.fault if wire else None) or error, run.watch.phase)
    finally:
        if wire is not None:
            wire.abort()


async def _addresses(run: _Run, hop: Hop) -> list[AddressInfo] | Fault:
    family = FAMILIES[run.settings.ip_family]
    if hop.address is None:
        found = await run.clients.resolver.resolve(hop.host, hop.port, family)
    elif family in (0, hop.address[0]):
        found = [hop.address]
    else:
        return Fault("dns", f"{hop.host} is not an {run.settings.ip_family} address")
    return (forbidden(found, hop, run.plan.request.url) if run.redirects else None) or found


async def _connected(run: _Run, hop: Hop, addresses: list[AddressInfo]) -> Wire:
    watch, has_body = run.watch, hop.method != "HEAD"
    most = 2 * run.settings.max_body + _FRAMING      # small chunks double a page
    run.tls = hop.tls
    if not hop.tls:
        watch.enter("connect")
        wire = Wire(await connect(addresses), has_body=has_body, most=most)
    else:
        watch.enter("connect")
        context = await run.clients.context(run.settings.tls)
        watch.skip()             # loading the trust store is our own work
        sock = await connect(addresses)
        watch.enter("tls")
        secure = await handshake(sock, context, hop.server_name)
        wire = Wire(secure, has_body=has_body, most=most)
        run.expiry = min(filter(None, (run.expiry, run.clients.expiry(secure))), default=0.0)
    watch.enter("processing")
    return wire


async def _body(stream: Any, most: int) -> tuple[bytes, bool]:
    """The body, unpacked, and whether that is all of it: it is unpacked in small pieces and cut at `most` bytes."""
    chunks: list[bytes] = []
    size, pause = 0, _BREATH
    while chunk := await stream.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            return b"".join(chunks)[:most], False
        if size > pause:
            pause = size + _BREATH
            await asyncio.sleep(0)
    return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), True


def _judged(run: _Run, seconds: float) -> Fault | None:
    """What is wrong with the answer that came, with the most telling explanation first."""
    answer = run.answer
    assert answer is not None  # noqa: S101 no answer would be a fault already
    wanted = run.plan.expectations
    fault = wanted.fault(answer)
    if fault is not None:
        if name := wall(answer):
            return Fault("challenged", f"{name} kept this monitor out: allow its address or user agent ({fault.words})")
        if how := maintenance(answer):
            return Fault("maintenance", f"{how} ({fault.words})")
        return fault
    return _certificate(run) or _slow(wanted, seconds)


def _certificate(run: _Run) -> Fault | None:
    least = run.settings.tls.min_days_left
    if not least or not run.expiry:
        return None
    left = (run.expiry - time()) / _DAY
    return None if left >= least else Fault("tls_min_days", f"the certificate expires in {left:.1f} days, wanted {least}")


def _slow(wanted: Expectations, seconds: float) -> Fault | None:
    if wanted.max_duration is None or seconds <= wanted.max_duration:
        return None
    return Fault("slow", f"took {seconds:.2f} s, wanted {wanted.max_duration:g} s")


def _sample(run: _Run, fault: Fault | None, seconds: float) -> Sample:
    settings = run.settings
    reason = fault.reason if fault else ""
    return Sample(
        probe=settings.name,
        cohort=settings.cohort,
        outcome=outcome(reason),
        reason=reason,
        seconds=seconds,
        values=run.watch.spent,
        facts=_facts(run, reason),
        evidence=scrub(fault.words, run.plan.secrets) if fault else "",
    )


def _facts(run: _Run, reason: str) -> dict[str, float]:
    """The state that blackbox_exporter shows, with its meaning: of the last answer, zeros when none came."""
    answer = run.answer
    length = answer.headers.get("Content-Length", "") if answer else ""
    facts = {
        "status_code": float(answer.status) if answer else 0.0,
        "redirects": float(run.redirects),
        "ssl": float(run.tls and answer is not None),
        "version": answer.version if answer else 0.0,
        "content_length": float(length) if length.isdecimal() else -1.0,
        "dns_lookup": run.watch.spent["resolve"],
        "failed_due_to_regex": float(reason in ("body", "header")),
    }
    if run.expiry:
        facts["cert_expiry"] = run.expiry
    return facts


def _unready(settings: HttpSettings, words: str) -> Sample:
    """The sample of a run that could not begin, for a reason of ours."""
    reason = "settings"
    return Sample(settings.name, outcome(reason), reason, cohort=settings.cohort, evidence=scrub(words))
