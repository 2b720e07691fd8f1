"""Who is asking: tokens are kept as hashes and compared in constant time, guesses are counted, and no foreign page asks in a person's name."""

import base64
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from monitor.web.problems import ProblemError
from monitor.web.settings import Scope, TokenSettings
from probes.scrub import know

log = structlog.get_logger()

LOCAL = "local admin"
SHORTEST = 16             # characters; a shorter token could be guessed
GUESSES, WINDOW = 10, 60.0   # wrong tokens that one source may send within so many s
MOST_SOURCES = 4096       # that are remembered; the one that is quiet for the longest is forgotten first
_TOKEN = re.compile(rb"\s*([!-~]{%d,})\s*" % SHORTEST)
BROWSER = 'Basic realm="Tillwatch", charset="UTF-8"'      # makes a browser ask
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """A token's name and what it may do."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whoever may do anything may also read."""
        return scope == "read" or scope in self.scopes or "admin" in self.scopes


class Tokens:
    """The tokens that this daemon takes."""

    def __init__(self, settings: Iterable[TokenSettings], local: str) -> None:
        self._known = [(_digest(local), Caller(LOCAL, frozenset({"admin"})))]
        know(local)
        for token in settings:
            value = token.value.reveal()
            know(value)
            if len(value) < SHORTEST:
                log.warning("a token is short enough to be guessed", token=token.name, characters=SHORTEST)
            self._known.append((_digest(value), Caller(token.name, frozenset(token.scopes))))

    def caller(self, token: str) -> Caller | None:
        """Whoever holds this token. Every known token is compared, whichever fits."""
        if not token or len(token) > 4096:
            return None
        digest, found = _digest(token), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


class Guesses:
    """Wrong tokens by source: how long one that has sent too many must wait. `now()` is monotonic time in s."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}      # since when, how many; who was last heard stands last

    def wrong(self, source: str) -> float:
        """Note one. Gives 0, or the s until this source may try again."""
        since, count = self._seen.pop(source, (self._now(), 0))
        if self._now() - since >= WINDOW:
            since, count = self._now(), 0
        self._seen[source] = since, count + 1
        while len(self._seen) > MOST_SOURCES:
            del self._seen[next(iter(self._seen))]
        if count + 1 == GUESSES:
            log.warning("too many wrong tokens", source=source)
        return since + WINDOW - self._now() if count >= GUESSES else 0.0


class Guard:
    """Lets a request pass, or answers it with 401, 403 or 429. `open_reads`: on loopback everybody may read."""

    def __init__(self, tokens: Tokens, *, open_reads: bool, now: Callable[[], float] = monotonic) -> None:
        self.tokens, self._open_reads, self._guesses = tokens, open_reads, Guesses(now)

    def allowed(self, request: web.Request, scope: Scope) -> Caller:
        """Who asks, if he may. Raises ProblemError.

        A right token is let in however many wrong ones came from the same address: behind a proxy all share one, and nobody
        shall be able to lock the others out. That no token can be guessed is for its length to see to.
        """
        return self._known(request, _bearer(request), scope, ProblemError(401, "this needs a token: Authorization: Bearer ..."))

    def _known(self, request: web.Request, token: str, scope: Scope, unknown: ProblemError) -> Caller:
        caller = self.tokens.caller(token)
        if caller is None:
            if token and (wait := self._guesses.wrong(_source(request.remote or ""))):
                raise ProblemError(429, "too many wrong tokens from this address: wait a minute", retry_after=wait)
            raise unknown
        if not caller.may(scope):
            raise ProblemError(403, f'the token "{caller.name}" lacks the scope "{scope}"')
        return caller

    def reader(self, request: web.Request) -> None:
        """On loopback everybody may read; elsewhere reading needs a token too."""
        if not self._open_reads:
            self.allowed(request, "read")

    def viewer(self, request: web.Request) -> None:
        """The same for what people open in a browser: it asks them for a name (any) and a password, which is the token.

        Only what changes nothing may be guarded so: a browser sends a password by itself, also when another site's page asks for it.
        """
        if not self._open_reads:
            unknown = ProblemError(401, "this needs a token, as the password: any name will do", challenge=BROWSER)
            self._known(request, _bearer(request) or _password(request), "read", unknown)


def local_token(state_dir: Path) -> str:
    """The token of the command line on this host: made once, and anew when the file holds no token; readable by the daemon's user alone."""
    path = state_dir / "token"
    return kept_token(path) or _made(path)


def kept_token(path: Path) -> str:
    """The token in that file; "" when there is no file, or something else in it. Raises OSError when it cannot be read."""
    try:
        with path.open("rb") as file:
            held = _TOKEN.fullmatch(file.read(4096))
    except FileNotFoundError:
        return ""
    return held[1].decode() if held else ""


def _made(path: Path) -> str:
    """On the disk before it has its name: a crash leaves a whole token, or none."""
    if path.exists():
        log.warning("the token of this host was no token, and is made anew", path=str(path))
    made, token = path.with_suffix(".new"), secrets.token_urlsafe(32)
    made.unlink(missing_ok=True)
    made.touch(mode=0o600)
    with made.open("w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    made.rename(path)
    return token


def foreign(request: web.BaseRequest, names: Collection[str]) -> bool:
    """Does a page of somebody else's ask for a change, from within a person's browser? `names`: our own hosts, with port where it is said.

    A browser cannot send our tokens by itself, so this is the second lock. Programs send neither of the two headers.
    """
    if request.method in SAFE:
        return False
    site, origin = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Origin")
    return site not in {"same-origin", "none"} or (origin is not None and urlsplit(origin).netloc not in names)


def _bearer(request: web.BaseRequest) -> str:
    """The bearer token of a request."""
    return _given(request, "bearer")


def _password(request: web.BaseRequest) -> str:
    """What a person has typed in a browser (HTTP Basic), without the name."""
    try:
        return base64.b64decode(_given(request, "basic"), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _given(request: web.BaseRequest, scheme: str) -> str:
    """What a request says by this scheme; two headers say nothing."""
    found = request.headers.getall("Authorization", [])
    named, _, value = found[0].partition(" ") if len(found) == 1 else ("", "", "")
    return value.strip() if named.lower() == scheme else ""


def _source(remote: str) -> str:
    """Whom an address belongs to: of IPv6 everybody has a whole network."""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64))) if address.version == 6 and not address.ipv4_mapped else remote


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()     # a header may hold any bytes
