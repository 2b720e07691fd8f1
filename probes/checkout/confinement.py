"""What a browser can reach: only the hosts that a probe names, by its own rules for names, without a look at any request.

Chromium resolves every other name, and every other address however it is written, to nothing: pages, frames, fetch, WebSockets, WebTransport,
service workers, preconnects; it uses no proxy, and WebRTC sends nothing. Firefox and WebKit are given a proxy that is not there for all other
hosts, and Firefox neither WebRTC nor WebTransport.

Not confined: ports of a host that is named; where its name points to (tillwatch-browser.service keeps the addresses of cloud metadata out); what
the name server is asked about hosts that are named; what the flow itself opens as a file. Of Firefox also hosts below a named one, and IPv6
addresses cannot be named for it; of WebKit WebRTC.
"""

import re
from collections.abc import Iterable

NOWHERE = "http://127.0.0.1:9"               # the discard port, at which nothing listens
# What a cloud tells its machines, keys among it: link-local IPv4, also as it is written in IPv6; AWS, Alibaba, Oracle.
METADATA = ("169.254.*", "*:a9fe:*", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "metadata.google.internal", "instance-data")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]{0,250}[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*")
# localhost too goes through the proxy, which is never gone around; names go to the system's own name server.
_CONFINED: dict[str, str | float | bool] = {
    "network.proxy.allow_hijacking_localhost": True, "network.proxy.failover_direct": False, "network.trr.mode": 5,
    "network.dns.disablePrefetch": True, "network.http.http3.enable": False, "network.webtransport.enabled": False,
    "media.peerconnection.enabled": False, "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
}


def plain_hosts(texts: Iterable[str]) -> tuple[str, ...]:
    """Hosts as browsers compare them: small, in ASCII, IPv6 without brackets. Raises ValueError for what is none, and would be a rule of its own."""
    return tuple(_plain(text) for text in texts)


def _plain(text: str) -> str:
    try:
        host = text.strip("[]").lower().encode("idna" if not text.isascii() else "ascii").decode("ascii")
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host):
        raise ValueError(f"hosts: {text!r} is no name of a host")
    return host


def chromium_arguments(hosts: tuple[str, ...]) -> list[str]:
    """How Chromium is told; without hosts it reaches anything but what a cloud tells its machines."""
    if not hosts:
        return ["--no-proxy-server", "--host-resolver-rules=" + ", ".join(f"MAP {host} ~NOTFOUND" for host in METADATA)]
    # The first policy is heard by the headless shell, the second by the full browser.
    return ["--no-proxy-server", "--host-resolver-rules=" + ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in hosts)]),
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp", "--webrtc-ip-handling-policy=disable_non_proxied_udp"]


def proxy(hosts: tuple[str, ...]) -> dict[str, str]:
    """Playwright's `proxy` that leads nowhere, but for these hosts."""
    return {"server": NOWHERE, "bypass": ",".join(hosts)}


def firefox_preferences(hosts: tuple[str, ...]) -> dict[str, str | float | bool]:
    """What of Firefox would go around that proxy."""
    return dict(_CONFINED) if hosts else {"network.trr.mode": 5}
