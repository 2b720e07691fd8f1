"""Whose fault an error in a flow is, told from what Playwright raised. Pure but for its types."""

import re

from playwright.async_api import Error, TimeoutError  # noqa: A004 - Playwright's own

from probes.checkout.flow import FlowError, Refused, Stopped
from probes.checkout.script import UnsafeError, where
from probes.faults import Fault

_NET = re.compile(r"net::(ERR_[A-Z0-9_]+)|NS_ERROR_([A-Z_]+)")
_CALL_LOG = re.compile(r"\n(?:Call log|=+ logs =+|Browser logs):?[\s\S]*")
_WAITED = re.compile(r"waiting for ((?:locator|get_by|frame_locator|navigation|event)[^\n]{1,300})")
_GONE = re.compile(
    r"(?:target|page|context|browser|connection)[\w ,]{0,40}(?:has been |was )?(?:closed|crashed)|driver process|pipe closed", re.IGNORECASE)
_REASONS = {
    "ERR_NAME_NOT_RESOLVED": "dns", "ERR_NAME_RESOLUTION_FAILED": "dns", "ERR_CONNECTION_REFUSED": "connect_refused",
    "ERR_CONNECTION_TIMED_OUT": "connect_timeout", "ERR_TIMED_OUT": "timeout", "ERR_CONNECTION_RESET": "disconnected",
    "ERR_CONNECTION_CLOSED": "disconnected", "ERR_EMPTY_RESPONSE": "disconnected", "ERR_CONTENT_LENGTH_MISMATCH": "disconnected",
    "ERR_INCOMPLETE_CHUNKED_ENCODING": "disconnected", "ERR_CERT_DATE_INVALID": "tls_expired", "ERR_CERT_COMMON_NAME_INVALID": "tls_hostname",
    "ERR_CERT_AUTHORITY_INVALID": "tls_untrusted", "ERR_SSL_PROTOCOL_ERROR": "tls_protocol", "ERR_SSL_VERSION_OR_CIPHER_MISMATCH": "tls_protocol",
    "ERR_TOO_MANY_REDIRECTS": "redirects", "ERR_HTTP_RESPONSE_CODE_FAILURE": "status", "ERR_INVALID_HTTP_RESPONSE": "protocol",
    "ERR_UNSAFE_PORT": "flow",
    "ERR_INTERNET_DISCONNECTED": "local_network", "ERR_NETWORK_CHANGED": "local_network", "ERR_NETWORK_ACCESS_DENIED": "local_network",
    "ERR_INSUFFICIENT_RESOURCES": "local_resources", "ERR_OUT_OF_MEMORY": "local_resources", "ERR_ADDRESS_UNREACHABLE": "connect_failed",
    # Firefox
    "UNKNOWN_HOST": "dns", "CONNECTION_REFUSED": "connect_refused", "NET_TIMEOUT": "connect_timeout", "NET_RESET": "disconnected",
    "NET_INTERRUPT": "disconnected", "OFFLINE": "local_network", "REDIRECT_LOOP": "redirects",
}


def fault(error: BaseException, file: str) -> Fault | None:
    """What an error that ended a flow or a step says; None when it only ends where it was to end."""
    if isinstance(error, Stopped):
        return None
    if isinstance(error, Refused | UnsafeError):
        return Fault("refused", str(error))
    if isinstance(error, FlowError):
        return Fault("flow", where(error, file))
    if isinstance(error, AssertionError | TimeoutError):
        return Fault("step", words(error) or "an assertion of the flow did not hold")
    if isinstance(error, Error):
        return _of_browser(error)
    return Fault("flow", where(error, file))


def _of_browser(error: Error) -> Fault:
    text = words(error)
    if found := _NET.search(text):
        name = found[1] or found[2]
        reason = _REASONS.get(name) or ("tls_untrusted" if "CERT" in name or name.startswith("SEC_") else "connect_failed")
        return Fault(reason, text)
    if _GONE.search(text):
        return Fault("browser", f"the browser was gone: {text}")
    return Fault("step", text)


def words(error: BaseException) -> str:
    """What an error says in one line, and what it waited for, without the rest of Playwright's log of calls: that repeats what was typed."""
    whole = str(error)
    waited = _WAITED.search(whole)
    text = " ".join(_CALL_LOG.sub("", whole).split())
    return text[:400] + (f" (waited for {waited[1].strip()[:200]})" if waited else "")
