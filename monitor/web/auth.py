"""Who is asking: tokens are kept as hashes and compared in constant time."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from monitor.web.problems import ProblemError
from monitor.web.settings import Scope, TokenSettings

LOCAL = "local admin"


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
        self._known = [(_digest(token.value.reveal()), Caller(token.name, frozenset(token.scopes))) for token in settings]
        self._known.append((_digest(local), Caller(LOCAL, frozenset({"admin"}))))

    def caller(self, request: web.BaseRequest) -> Caller | None:
        """Whoever holds the bearer token of this request. Every known token is compared, whichever fits."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or len(token) > 4096:
            return None
        digest, found = _digest(token.strip()), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


class Guard:
    """Lets a request pass, or answers it with 401 or 403. `open_reads`: on loopback everybody may read."""

    def __init__(self, tokens: Tokens, *, open_reads: bool) -> None:
        self.tokens, self._open_reads = tokens, open_reads

    def allowed(self, request: web.Request, scope: Scope) -> Caller:
        """Who asks, if he may. Raises ProblemError."""
        caller = self.tokens.caller(request)
        if caller is None:
            raise ProblemError(401, "this needs a token: Authorization: Bearer ...")
        if not caller.may(scope):
            raise ProblemError(403, f'the token "{caller.name}" lacks the scope "{scope}"')
        return caller

    def reader(self, request: web.Request) -> None:
        """On loopback everybody may read; elsewhere reading needs a token too."""
        if not self._open_reads:
            self.allowed(request, "read")


def local_token(state_dir: Path) -> str:
    """The token of the command line on this host: made once, readable by the daemon's user alone."""
    path = state_dir / "token"
    if not path.exists():
        made = path.with_suffix(".new")
        made.touch(mode=0o600)
        made.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
        made.rename(path)
    return path.read_text(encoding="ascii").strip()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()     # a header may hold any bytes
