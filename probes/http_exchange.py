"""One request and its answer, and where a redirect leads: pure, no network."""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yarl import URL

from probes.connector import AddressInfo
from probes.faults import Fault

Headers = Sequence[tuple[str, str]]

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_AUTOMATIC = {
    "User-Agent": "Tillwatch/0.1",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br, zstd",
}
# What may go along to a host that is not the configured one. Everything else could be a credential.
_HARMLESS = frozenset({"user-agent", "accept", "accept-encoding", "accept-language", "cache-control", "pragma"})
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200"})       # AWS by IPv6, Alibaba
_COOKIE = re.compile(r"\s*([^=;\s]+)\s*=\s*([^;]*)")
_EXPIRED = re.compile(r";\s*max-age\s*=\s*(?:0|-\d+)\s*(?:;|$)", re.IGNORECASE)
_SECURE = re.compile(r";\s*secure\s*(?:;|$)", re.IGNORECASE)
_COOKIES = 50               # per host, as the least that browsers hold (RFC 6265 §6.1)
_TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{0,300})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hop:
    """One request, ready to be sent: where to connect, whether by TLS, and the bytes."""

    url: URL
    method: str
    host: str                               # what is dialled: a name, or the text of an address
    port: int
    address: AddressInfo | None             # when the host is an address already and nothing need be resolved
    tls: bool
    server_name: str
    request: bytes


@dataclass(slots=True)
class Answer:
    """What came back, the body decompressed."""

    hop: Hop
    status: int
    phrase: str
    version: float
    headers: Mapping[str, str]              # case-insensitive and with getall(), as aiohttp has them
    body: bytes = b""

    @property
    def title(self) -> str:
        """The title of an HTML page, "" when it has none."""
        found = _TITLE.search(self.body[:65_536])
        return " ".join(found[1].decode("utf-8", "replace").split()) if found else ""

    @property
    def media_type(self) -> str:
        """Content-Type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        getall = getattr(self.headers, "getall", None)
        return list(getall(name, ())) if getall else [self.headers[name]] if name in self.headers else []

    def leads_on(self) -> bool:
        """Whether this is a redirect."""
        return self.status in REDIRECTS and "Location" in self.headers


@dataclass(frozen=True, slots=True)
class Request:
    """What the settings ask to be sent, compiled once; the way to the first hop and from one hop to the next."""

    url: URL
    method: str
    headers: Headers
    body: bytes
    server_name: str = ""
    connect_to: tuple[str, int] | None = None
    max_redirects: int = 5

    def first(self) -> Hop:
        """The configured request."""
        return self._hop(self.url, self.method, self.headers, self.body)

    def after(self, answer: Answer, trail: "Trail") -> Hop | Fault:
        """The request that a redirect asks for, or why it is not made."""
        old = answer.hop
        try:
            url = old.url.join(URL(answer.headers["Location"])).with_fragment(None)
            usable = url.scheme in ("http", "https") and bool(url.raw_host) and bool(url.port)
        except ValueError:
            usable = False
        if not usable:
            return Fault("redirects", f"redirected to what is no web address: {answer.headers['Location'][:200]}")
        if trail.hops >= self.max_redirects:
            return Fault("redirects", f"more than {self.max_redirects} redirects, the last to {_bare(url)}")
        method = "GET" if answer.status in (301, 302, 303) and old.method != "HEAD" else old.method
        at_home = self._at_home(url)
        if method != "GET" and self.body and not at_home:
            return Fault("redirects", f"redirected to {_bare(url)}, but the request body is for {self.url.host} only")
        trail.hops += 1
        trail.remember(answer)
        headers = [item for item in self.headers if at_home or item[0].lower() in _HARMLESS]
        headers += trail.cookies_for(url)
        if not trail.visit(method, url, headers):
            return Fault("redirects", f"redirects go round in a circle at {_bare(url)}")
        return self._hop(url, method, headers, self.body if method == old.method else b"")

    def _at_home(self, url: URL) -> bool:
        """Whether credentials may go to this address: same host and port, or the step from http to https on it."""
        home = self.url
        if url.raw_host != home.raw_host or (home.scheme == "https" and url.scheme != "https"):
            return False
        return url.port == home.port or (home.port == 80 and url.port == 443)

    def _hop(self, url: URL, method: str, headers: Headers, body: bytes) -> Hop:
        host, port = (url.raw_host or "").rstrip("."), url.port or 80
        server_name = host
        if (url.raw_host, url.port) == (self.url.raw_host, self.url.port):
            server_name = self.server_name or host
            host, port = self.connect_to or (host, port)
        request = _head(method, url, headers, body) + body
        return Hop(url, method, host, port, _address(host, port), url.scheme == "https", server_name, request)


@dataclass(slots=True)
class Trail:
    """What is remembered along one chain of redirects, and forgotten after it: cookies by host, requests made."""

    hops: int = 0
    _cookies: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)
    _visited: set[object] = field(default_factory=set)

    def remember(self, answer: Answer) -> None:
        """Keep the cookies that an answer sets: for its very host, whatever their domain and path say."""
        jar = self._cookies.setdefault(answer.hop.url.raw_host or "", {})
        for line in answer.all("Set-Cookie"):
            found = _COOKIE.match(line)
            if not found:
                continue
            if _EXPIRED.search(line):
                jar.pop(found[1], None)
            elif len(jar) < _COOKIES or found[1] in jar:
                jar[found[1]] = found[2].strip(), bool(_SECURE.search(line))

    def cookies_for(self, url: URL) -> list[tuple[str, str]]:
        """The Cookie header for an address, if any."""
        jar = self._cookies.get(url.raw_host or "", {})
        pairs = [f"{name}={value}" for name, (value, secure) in jar.items() if url.scheme == "https" or not secure]
        return [("Cookie", "; ".join(pairs))] if pairs else []

    def visit(self, method: str, url: URL, headers: Headers) -> bool:
        """Note a request; False when the very same was made before."""
        request = method, url, tuple(value for name, value in headers if name.lower() == "cookie")
        if request in self._visited:
            return False
        self._visited.add(request)
        return True


def _head(method: str, url: URL, headers: Headers, body: bytes) -> bytes:
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {url.host_port_subcomponent}")
    lines += [f"{name}: {value}" for name, value in _AUTOMATIC.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in _join_cookies(headers)]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def _join_cookies(headers: Headers) -> list[tuple[str, str]]:
    """The headers with the configured and the received cookies in one Cookie header (RFC 6265 §5.4)."""
    cookies = [value for name, value in headers if name.lower() == "cookie"]
    if len(cookies) < 2:
        return list(headers)
    return [item for item in headers if item[0].lower() != "cookie"] + [("Cookie", "; ".join(cookies))]


def _address(host: str, port: int) -> AddressInfo | None:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


def _bare(url: URL) -> str:
    """An address without the parts that may hold a secret."""
    return str(url.with_query(None).with_user(None))[:200]


def forbidden(addresses: list[AddressInfo], hop: Hop, home: URL) -> Fault | None:
    """Why a redirect may not be followed to where its host name leads.

    At link-local and a few further addresses clouds hand out a machine's own credentials: a hostile page could send us
    there, and no shop lives there. Other private addresses stay allowed, because staging shops live there.
    """
    if hop.url.raw_host == home.raw_host:
        return None
    for info in addresses:
        address = ipaddress.ip_address(info[4][0].partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or str(address) in _METADATA:
            return Fault("redirects", f"redirected to {_bare(hop.url)}, where no shop can be but a cloud's own services")
    return None
