"""Whose a web address is, and how it reads without what differs each time and without what is secret. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, unquote, urlsplit

from probes.error_log.masks import plain
from probes.error_log.modules import module_of
from probes.scrub import redact, scrub, visible

_READ = 2048               # characters of an address that are looked at
_LONGEST_PLACE = 90        # characters of a path in a name, from its end
_LONGEST_MODULE = 48

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What bundlers put before the ending of a file: "index-CkdZpqLr.js" has no digit and yet is another with each build.
_BUILD = re.compile(r"(?<=[-.])([A-Za-z0-9_-]{8,24})(?=\.(?:min\.)?(?:m?js|css)$)")
_WORDS = re.compile(r"(?:[A-Z]?[a-z]{2,})+|[a-z]+(?:[-_][a-z]+)*|[A-Z]+")
_TOKEN = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_=~-]{20,}")
_IN_HOST = re.compile(r"(?<![^.-])(?:[0-9a-fA-F]{16,}|\d{4,})(?![^.-])")
_PORT = re.compile(r"https?://(?:[^/?#@]{0,200}@)?[^/?#@]{1,256}(:\d{1,5})(?:[/?#]|$)")
# Parameters that say what is asked for, where one script answers all of it; others are ids, tokens and caches.
_DISPATCHES = frozenset(("route", "wc-ajax", "action", "controller", "fc", "module", "rest_route", "task", "option", "view", "dispatch"))
_NAME = re.compile(r"[A-Za-z][A-Za-z_./|-]{0,60}")
# Where shops serve what belongs to an extension, beside the folders that logs show too.
_SERVED = (
    re.compile(r"/(?:frontend|base)/(?:[^/]+/){1,4}?([A-Z][A-Za-z0-9]+_[A-Z][A-Za-z0-9]+)/"),           # Magento's static files
    re.compile(r"/bundles/([A-Za-z][\w-]+)/"),                                                          # Shopware's, Symfony's
)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Whose hosts are whose. `own`: domains of the shop, each with all below it. `allowed`: all that the browser can reach, "*.x" every
    host below x; empty = anything."""

    own: frozenset[str]
    allowed: frozenset[str]

    @classmethod
    def of(cls, own: str | Iterable[str], allowed: Iterable[str] = ()) -> "Hosts":
        """From names of hosts, or addresses with one."""
        given = (own,) if isinstance(own, str) else own
        return cls(frozenset(_bare(name).removeprefix("*.").removeprefix("www.") for name in given), frozenset(map(_bare, allowed)))

    def is_own(self, host: str) -> bool:
        """Whether it is the shop's."""
        return any(name in self.own for name in _above(host))

    def may_reach(self, host: str) -> bool:
        """Whether the browser is allowed to reach it."""
        return not self.allowed or host in self.allowed or any(f"*.{name}" in self.allowed for name in _above(host)[1:])


def _bare(name: str) -> str:
    return host_of(name) if "://" in name else name.strip().lower().rstrip(".")


def _above(host: str) -> list[str]:
    """The host and the domains above it, at most eight."""
    parts = host.split(".")[-8:]
    return [host, *(".".join(parts[at:]) for at in range(1, len(parts)))]


def host_of(url: str) -> str:
    """The host of a web address in lower case; "" of anything else, such as data: and blob:."""
    return _split(url[:_READ])[0]


def path_of(url: str) -> str:
    """The path of a web address; "" of anything else."""
    return _split(url[:_READ])[1]


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[str, str, str]:
    if not url.startswith(("http://", "https://")):
        return "", "", ""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").rstrip("."), parts.path or "/", parts.query
    except ValueError:
        return "", "", ""


def host_name(host: str) -> str:
    """A host as it stands in a name: without long numbers and hashes, at most 80 characters."""
    return visible(redact(_IN_HOST.sub("*", host[:80]), ips=True))


def place(url: str, hosts: Hosts) -> str:
    """Where an address leads, the same each time: "/wp-content/plugins/pay/app.*.js", with its host where that is not the shop's."""
    host, path, query = _split(url[:_READ])
    if not host:
        return ""
    path = redact(unquote(path[-512:], errors="replace"), ips=True)
    steps = [_segment(part) for part in path.split("/")]
    shown = re.sub(r"(?:\*/){2,}", "*/", "/".join(steps)) + _dispatch(query)
    shown = shown if len(shown) <= _LONGEST_PLACE else f"…{shown[-_LONGEST_PLACE:]}"
    return visible(re.sub(r"\s+", " ", shown if hosts.is_own(host) else host_name(host) + shown))


def _segment(part: str) -> str:
    part = _BUILD.sub(lambda found: found[0] if _WORDS.fullmatch(found[1]) else "*", _UUID.sub("*", part))
    return "*" if _TOKEN.fullmatch(part) else plain(part)


def _dispatch(query: str) -> str:
    """What of a query says what is asked for."""
    told = [f"{name}={value}" for name, value in _pairs(query) if name in _DISPATCHES and _NAME.fullmatch(value)]
    return "?" + redact("&".join(told[:3])) if told else ""


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []


def module(url: str) -> str:
    """The plugin, theme or module that a file which is served belongs to; "" when the address does not tell."""
    path = unquote(path_of(url), errors="replace")
    steps = "/".join(_segment(part) for part in path[-512:].split("/"))
    found = next((match[1] for pattern in _SERVED if (match := pattern.search(path))), "") or module_of(steps)
    found = plain(redact(found)).strip("*-._ ")
    return "" if any(sign in found for sign in "[]") else visible(found)[:_LONGEST_MODULE]


def shown(url: str, secrets: tuple[str, ...] = ()) -> str:
    """An address as a person may see it: names of parameters without their values, scrubbed, at most 200 characters."""
    host, path, query = _split(url[:_READ])
    if not host:
        return scrub(url.partition(":")[0][:20] + ":")
    asked = "&".join(f"{name}={value}" if name in _DISPATCHES and _NAME.fullmatch(value) else name for name, value in _pairs(query)[:12])
    begin = url[:_READ].partition("//")[0]
    return scrub(f"{begin}//{host}{_port(url)}{unquote(path, errors='replace')}{'?' + asked if asked else ''}", secrets, limit=200)


def _port(url: str) -> str:
    found = _PORT.match(url[:_READ])
    return found[1] if found else ""
