"""The daemon's API as the command line uses it; each failure carries the exit code that it means."""

import http.client
import ipaddress
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

BAD, USAGE, REFUSED, INCONCLUSIVE, UNREACHABLE, UNAUTHORISED, WRONG_PHASE, UNEXPECTED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 70, 124, 130
_CODES = {
    400: USAGE, 401: UNAUTHORISED, 403: UNAUTHORISED, 404: WRONG_PHASE, 409: WRONG_PHASE, 422: REFUSED,
    502: UNREACHABLE, 503: UNREACHABLE, 504: UNREACHABLE,       # also what a reverse proxy says while the daemon restarts
}
_SECONDS = 60.0           # freezing the baselines of a thousand probes takes a while


class CommandError(Exception):
    """Ends the command with this exit code and this sentence on stderr."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect is answered like any other error."""


class Client:
    """Calls the daemon at `url` with `token` ("" for none)."""

    def __init__(self, url: str, token: str, ca_file: Path | None = None) -> None:
        self._url, self._token = url.rstrip("/"), token
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]         # the token is for this address alone
        if _is_loopback(url):
            handlers.append(urllib.request.ProxyHandler({}))
        if url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Any:
        """The JSON document at `path`."""
        return self._json(self._call("GET", path))

    def text(self, path: str) -> str:
        """The text at `path`."""
        return self._call("GET", path).decode()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer to a change."""
        return self._json(self._call("POST", path, json.dumps(body or {}).encode()))

    def _json(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise CommandError(UNREACHABLE, f"what answers at {self._url} is no Tillwatch") from None

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self._url + path, data=body, method=method, headers={"Content-Type": "application/json"})  # noqa: S310 - http(s) only, checked in the CLI
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise CommandError(_CODES.get(error.code, UNEXPECTED), _detail(error)) from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise CommandError(UNREACHABLE, f"no Tillwatch answers at {self._url}: {reason}") from None


def update_path(id_: str, rest: str = "") -> str:
    """Where the API has an update, whatever the identifier is made of."""
    return f"/api/v1/updates/{quote(id_, safe='')}{rest}"


def _is_loopback(url: str) -> bool:
    """A proxy of the environment is for other hosts; this one's token is not for it to see."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, OSError):
        return f"HTTP {error.code} {error.reason}"


def token_for(url: str, state_dir: Path | None = None, base: str = "") -> str:
    """$TILLWATCH_TOKEN, else the token that the daemon at `base` keeps for the command line of its own host, else "".

    The kept one may do everything: it goes to this host or to `base`, whatever --url says. None goes out in the clear.
    """
    token = os.environ.get("TILLWATCH_TOKEN", "").strip()
    if not token and state_dir and (_is_loopback(url) or (base and address(url) == address(base))):
        token = _kept(state_dir)
    if token and urlsplit(url).scheme != "https" and not _is_loopback(url):
        raise CommandError(USAGE, f"a token is not sent over plain http to {urlsplit(url).hostname}, where others could read it: use https://, "
                                  "or on the daemon's own host --url http://127.0.0.1:PORT")
    return token


def _kept(state_dir: Path) -> str:
    try:
        token = (state_dir / "token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return token if token.isprintable() else ""


def address(url: str) -> tuple[str, str, int, str]:
    """What `url` leads to, however it is written: scheme, host, port, path. Raises ValueError when it leads nowhere."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    return parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80), parts.path.rstrip("/")
