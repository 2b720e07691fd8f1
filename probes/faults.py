"""Errors of the network, told apart: which reason each is, and in words."""

import errno
import ssl
from dataclasses import dataclass

from aiohttp import ServerDisconnectedError

from probes.clients import UnresolvedError
from probes.connector import FloodError

# OpenSSL's X509_V_ERR_*; all others are a missing, unknown or refused authority.
_VERIFY = {9: "tls_not_yet_valid", 10: "tls_expired", 62: "tls_hostname", 64: "tls_hostname"}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
# "Network unreachable" is, but for a rare ICMP message, the answer of our own routing table: the uplink is down or the
# shop has an IPv6 address only and this machine has none. "Host unreachable" is left to the shop: someone on the way
# looked for that host and did not find it. EPERM and EACCES come from a packet filter on this machine.
_UNCONNECTED = {errno.ENETUNREACH, errno.ENETDOWN, errno.EPERM, errno.EACCES}
_LOCAL = dict.fromkeys(_EXHAUSTED, "local_resources") | dict.fromkeys(_UNCONNECTED, "local_network")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a run was not ok: a reason of the closed list, and words for a person."""

    reason: str
    words: str


def explain(error: Exception, phase: str) -> Fault:
    """The fault that an exception of the given phase stands for."""
    if isinstance(error, UnresolvedError):
        return _name(error)
    if isinstance(error, ssl.SSLError):
        return _tls(error)
    if isinstance(error, FloodError):
        return Fault("protocol", _words(error))
    if isinstance(error, OSError) and error.errno in _LOCAL:
        return Fault(_LOCAL[error.errno], _words(error))
    if phase == "connect":
        return _connecting(error)
    if phase == "tls":
        return Fault("tls_protocol", f"the connection ended in the TLS handshake: {_words(error)}")
    if isinstance(error, (OSError, ServerDisconnectedError)):
        return Fault("disconnected", f"the connection ended before the answer was complete: {_words(error)}")
    return Fault("protocol", f"not valid HTTP: {_words(error)}")


def overdue(phase: str, seconds: float) -> Fault:
    """The fault of a run whose time was up in the given phase."""
    reason = {"resolve": "dns_timeout", "connect": "connect_timeout"}.get(phase, "timeout")
    doing = {
        "resolve": "looking up the host name",
        "connect": "connecting",
        "tls": "in the TLS handshake",
        "processing": "waiting for the answer",
        "transfer": "reading the answer",
    }
    return Fault(reason, f"gave up after {seconds:g} s {doing[phase]}")


def _name(error: UnresolvedError) -> Fault:
    if error.timed_out:
        return Fault("dns_timeout", f"the name servers did not answer: {error}")
    if error.unreachable:
        return Fault("local_network", f"no name server of this machine could be reached: {error}")
    return Fault("dns", f"no address for {error}")


def _tls(error: ssl.SSLError) -> Fault:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _VERIFY.get(error.verify_code, "tls_untrusted")
        return Fault(reason, f"certificate refused: {error.verify_message}")
    return Fault("tls_protocol", f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}")


def _connecting(error: Exception) -> Fault:
    # aiohappyeyeballs joins different errors of several addresses into one text without a number; a refusal among
    # them is the most telling, because somebody was there to refuse.
    code = getattr(error, "errno", None)
    if code == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return Fault("connect_refused", "the server refused the connection")
    if code == errno.ETIMEDOUT:
        return Fault("connect_timeout", "the server did not answer the attempt to connect")
    return Fault("connect_failed", _words(error))


def _words(error: Exception) -> str:
    if isinstance(error, ServerDisconnectedError):
        return "the server closed it"            # its own text would be all that had come until then
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return str(text).strip() or type(error).__name__
