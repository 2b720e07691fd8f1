"""What an answer, a request that failed, and a console message say about the shop. Pure."""

import re
from dataclasses import dataclass

from probes.checkout.addresses import Hosts, host_name, host_of, path_of
from probes.checkout.findings import Kind

ASSETS = frozenset(("script", "stylesheet"))
ASKED = frozenset(("xhr", "fetch"))                           # by a script of the page
_MINOR = frozenset(("image", "media", "font", "ping", "texttrack", "manifest", "prefetch", "other", "beacon", "cspreport"))
_PAGES = {"document": "page in a frame", "window": "page in another window"}
_ABORTED = ("ERR_ABORTED", "NS_BINDING_ABORTED", "cancelled", "Load request cancelled")
_UNRESOLVED = ("ERR_NAME_NOT_RESOLVED", "NS_ERROR_UNKNOWN_HOST", "Could not resolve", "ERR_BLOCKED_BY_CLIENT")
# Told by the console better, or no fault of the shop's: this machine lost its network.
_TOLD_ELSEWHERE = ("csp", "mixed-content", "ERR_BLOCKED_BY_CSP", "ERR_NETWORK_CHANGED", "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_IO_SUSPENDED")
_NO_SCRIPT = frozenset(("text/html", "application/xhtml+xml", "text/css", "text/csv"))
_NO_STYLE = frozenset(("text/html", "application/xhtml+xml", "application/json", "text/javascript", "application/javascript"))

_REFUSED = re.compile(r"(?:Refused to (?:apply style|execute script) from|The resource from) ['\"“](https?://[^'\"”\s]{1,2000})['\"”]")
_MIXED = ("Mixed Content:", "Blocked loading mixed")
# The request that these speak of was seen itself.
_OF_REQUESTS = ("Failed to load resource", "Access to ", "Failed to load module script", "Cross-Origin Request Blocked")
_URL = re.compile(r"https?://[^\s'\"“”<>()]{1,600}")
_PLACE = re.compile(r"(https?://[^\s'\"“”<>()]{1,600}?)(?:\?[^\s'\"“”<>():]{0,300})?(?::\d+){1,2}(?![^\s)])")
_STACK = 4000              # characters of a stack that are looked at


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `main`: for the document that the page shows."""

    method: str
    url: str
    type: str                            # as the browser calls it: document, script, xhr ...; "window": a document in a window beside the page
    main: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be counted as a finding; see findings.Found.add."""

    kind: Kind
    said: str
    url: str
    light: bool = False
    text: str = ""
    fixed: bool = True                   # `said` is made of words of ours, with nothing of the page's in it


def answered(asked: Asked, status: int, media: str, hosts: Hosts) -> Remark | None:
    """What an answer says; `media` is its type without parameters. None when nothing is wrong with it."""
    host, bad = host_of(asked.url), status >= 400
    if not host or not (bad or asked.type in ASSETS):
        return None
    if asked.main:
        return Remark("document", f"answered {status}", asked.url)
    if not hosts.is_own(host):
        return Remark("third_party_failed", f"{host_name(host)} answered {status}", "", text=f"{asked.url} answered {status}") if bad else None
    if asked.type in ASSETS:
        return _asset(asked, status, media)
    if asked.type in ASKED:
        return Remark("xhr", f"{asked.method} answered {status}", asked.url)
    if path_of(asked.url) == "/favicon.ico":
        return None
    what = _PAGES.get(asked.type, asked.type)
    return Remark("request", f"{what} answered {status}", asked.url, light=asked.type in _MINOR)


def _asset(asked: Asked, status: int, media: str) -> Remark | None:
    if status >= 400:
        return Remark("asset", f"{asked.type} answered {status}", asked.url)
    wrong = media in (_NO_STYLE if asked.type == "stylesheet" else _NO_SCRIPT) or media.startswith(("image/", "video/", "font/"))
    return Remark("asset", f"{asked.type} came as {media}", asked.url) if wrong and 200 <= status < 300 and status != 204 else None


def failed(asked: Asked, why: str, hosts: Hosts, *, left: bool) -> Remark | None:
    """What a request without an answer says. `left`: its page had been left, or its frame removed, before it failed."""
    host = host_of(asked.url)
    if not host or any(sign in why for sign in _TOLD_ELSEWHERE):
        return None
    own = hosts.is_own(host)
    if any(sign in why for sign in _ABORTED):
        # Every navigation aborts what is still on its way; a stylesheet that is refused for its type says just the same.
        return Remark("asset", f"{asked.type} not loaded", asked.url) if own and asked.type in ASSETS and not left else None
    if any(sign in why for sign in _UNRESOLVED) and not hosts.may_reach(host):
        return None
    why = why.removeprefix("net::")[:60]
    if asked.main:
        return Remark("document", f"failed: {why}", asked.url)
    if not own:
        return Remark("third_party_failed", f"{host_name(host)} failed: {why}", "", text=f"{asked.url} failed: {why}")
    if asked.type in ASSETS:
        return Remark("asset", f"{asked.type} failed: {why}", asked.url)
    return Remark("request", f"{asked.method} {asked.type} failed: {why}", asked.url, light=asked.type in _MINOR)


def console(level: str, text: str, url: str, hosts: Hosts) -> Remark | None:
    """What a message in the console says, from a file at `url`; None when it is no error, or one of a request that was seen itself."""
    if text.startswith(_MIXED):
        found = _URL.findall(text[:2000])
        return Remark("mixed", "over http", found[-1].rstrip(".’,") if found else url, text=text[:400])
    if level != "error" or text.startswith(_OF_REQUESTS):
        return None
    if refused := _REFUSED.match(text):
        return _refused(refused[1], hosts)
    return Remark("console", text, url, text=f"{text[:350]} ({path_of(url)})", fixed=False)


def _refused(url: str, hosts: Hosts) -> Remark:
    """A file that the browser did not use because of its type. In the words of `failed`: either may be told first."""
    kind = "stylesheet" if path_of(url).endswith(".css") else "script"
    if hosts.is_own(host_of(url)):
        return Remark("asset", f"{kind} not loaded", url)
    return Remark("third_party_failed", f"{host_name(host_of(url))}: {kind} not loaded", "", text=f"{url} not loaded")


def page_error(name: str, message: str, stack: str, url: str, hosts: Hosts) -> Remark:
    """An error that no script caught; `url` is where, when the stack does not tell. Its place is the first of the shop's own files."""
    places = [found[1] for found in _PLACE.finditer(stack[:_STACK])][:20]
    where = next((place for place in places if hosts.is_own(host_of(place))), places[0] if places else url)
    said = message if not name or message.startswith(name) else f"{name}: {message}"
    frames = [" ".join(line.split()) for line in _QUERY.sub(r"\1", stack[:_STACK]).splitlines() if line.strip().startswith("at ")][:3]
    return Remark("page_error", said, where, text=" ".join((said[:300], *frames)), fixed=False)


_QUERY = re.compile(r"(https?://[^\s?]{1,600})\?[^\s:)]{0,600}")


def is_html_as_script(message: str) -> bool:
    """Whether a syntax error is what a page gives that was asked for as a script."""
    return message.startswith(("Unexpected token '<'", "expected expression, got '<'"))
