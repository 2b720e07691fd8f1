"""Whose fault an error in a flow is, told from what Playwright raised. Pure but for its types."""

import re
from builtins import TimeoutError as TimeLimit

from playwright.async_api import Error, TimeoutError  # noqa: A004 - Playwright's own

from probes.checkout.flow import FlowError, Refused, Stopped
from probes.checkout.script import UnsafeError, where
from probes.faults import Fault

_NET = re.compile(r"net::(ERR_[A-Z0-9_]+)|NS_ERROR_([A-Z_]+)")
_CALL_LOG = re.compile(r"\n(?:Call log|=+ logs =+|Browser logs):?[\s\S]*")
_WAITED = re.compile(r"waiting for ((?:locator|get_by|frame_locator|navigation|event)[^\n]{1,300})")
# In Playwright's own words: what a script of the page throws begins with the name of its error.
_GONE = re.compile(
    r"(?:\w+\.\w+: )?(?:Protocol error \([\w.]+\): )?(?:(?:Target|Page|Context|Browser|Connection|Navigation failed because)\b[\w ,]{0,60}"
    r"(?:closed|crashed)|.{0,100}driver process|.{0,100}pipe closed)", re.IGNORECASE)
_MISWRITTEN = re.compile(
    r"(?:\w+\.\w+: )?(?:Unexpected token .{0,200} while parsing|Unknown engine |Malformed |Error while parsing |Unknown key: |Unsupported token "
    r"|Protocol error \(Page\.navigate\): Cannot navigate to invalid URL|.{0,300} is not a valid (?:XPath expression|selector))")
_NO_PAGE = re.compile(r" at (?!https?:)[\w+.-]{1,40}:")                    # an address that no shop has
_REASONS = {
    "ERR_NAME_NOT_RESOLVED": "dns", "ERR_NAME_RESOLUTION_FAILED": "dns", "ERR_CONNECTION_REFUSED": "connect_refused",
    "ERR_CONNECTION_TIMED_OUT": "connect_timeout", "ERR_TIMED_OUT": "timeout", "ERR_CONNECTION_RESET": "disconnected",
    "ERR_CONNECTION_CLOSED": "disconnected", "ERR_EMPTY_RESPONSE": "disconnected", "ERR_CONTENT_LENGTH_MISMATCH": "disconnected",
    "ERR_INCOMPLETE_CHUNKED_ENCODING": "disconnected", "ERR_CERT_DATE_INVALID": "tls_expired", "ERR_CERT_COMMON_NAME_INVALID": "tls_hostname",
    "ERR_CERT_AUTHORITY_INVALID": "tls_untrusted", "ERR_SSL_PROTOCOL_ERROR": "tls_protocol", "ERR_SSL_VERSION_OR_CIPHER_MISMATCH": "tls_protocol",
    "ERR_TOO_MANY_REDIRECTS": "redirects", "ERR_HTTP_RESPONSE_CODE_FAILURE": "status", "ERR_INVALID_HTTP_RESPONSE": "protocol",
    "ERR_HTTP2_PROTOCOL_ERROR": "protocol", "ERR_QUIC_PROTOCOL_ERROR": "protocol", "ERR_INVALID_RESPONSE": "protocol",
    "ERR_CONNECTION_ABORTED": "disconnected", "ERR_SOCKET_NOT_CONNECTED": "disconnected",
    "ERR_ABORTED": "step",               # an answer that is no page, or the page went elsewhere by itself
    "ERR_UNSAFE_PORT": "flow", "ERR_INVALID_URL": "flow", "ERR_UNKNOWN_URL_SCHEME": "flow", "ERR_FILE_NOT_FOUND": "flow",
    "ERR_INTERNET_DISCONNECTED": "local_network", "ERR_NETWORK_CHANGED": "local_network", "ERR_NETWORK_ACCESS_DENIED": "local_network",
    "ERR_NETWORK_IO_SUSPENDED": "local_network",
    "ERR_INSUFFICIENT_RESOURCES": "local_resources", "ERR_OUT_OF_MEMORY": "local_resources", "ERR_ADDRESS_UNREACHABLE": "connect_failed",
    # Firefox
    "UNKNOWN_HOST": "dns", "CONNECTION_REFUSED": "connect_refused", "NET_TIMEOUT": "connect_timeout", "NET_RESET": "disconnected",
    "NET_INTERRUPT": "disconnected", "OFFLINE": "local_network", "REDIRECT_LOOP": "redirects",
}


def fault(error: BaseException, file: str) -> Fault | None:
    """What an error that ended a flow or a step says; None when it only ends where it was to end."""
    error = _telling(error)
    if isinstance(error, Stopped):
        return None
    if isinstance(error, Refused | UnsafeError):
        return Fault("refused", str(error))
    if isinstance(error, FlowError):
        return Fault("flow", where(error, file))
    if isinstance(error, TimeLimit):
        return Fault("step", where(error, file) + ("" if str(error) else "it took longer than the flow allows"))
    if isinstance(error, AssertionError | TimeoutError):
        return Fault("step", words(error) or f"{where(error, file)}this did not hold")
    if isinstance(error, Error):
        return _of_browser(error)
    return Fault("flow", where(error, file))


def _telling(error: BaseException) -> BaseException:
    """Of the errors of a task group the one that says most."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [_telling(inner) for inner in error.exceptions]
    return min(found, key=lambda one: 0 if isinstance(one, Refused) else 1 if isinstance(one, FlowError) else 3 if isinstance(one, Stopped) else 2)


def network(text: str) -> str:
    """The reason that a browser's name for a failure of the network means; "" when there is none in the text."""
    found = _NET.search(text)
    if not found:
        return ""
    name = found[1] or found[2]
    other = "tls_untrusted" if "CERT" in name or name.startswith("SEC_") else "tls_protocol" if name.startswith("ERR_SSL_") else "connect_failed"
    return "flow" if name == "ERR_ABORTED" and _NO_PAGE.search(text) else _REASONS.get(name, other)


def _of_browser(error: Error) -> Fault:
    text = words(error)
    if reason := network(text):
        return Fault(reason, text)
    if _GONE.match(text):
        return Fault("browser", f"the browser was gone: {text}")
    return Fault("flow" if _MISWRITTEN.match(text) else "step", text)


def words(error: BaseException) -> str:
    """What an error says in one line, and what it waited for, without the rest of Playwright's log of calls: that repeats what was typed."""
    whole = str(error)
    waited = _WAITED.search(whole)
    text = " ".join(_CALL_LOG.sub("", whole).split()).replace(" Actual value: None Error: element(s) not found", ", but there is none")
    return text[:400] + (f" (waited for {waited[1].strip()[:200]})" if waited else "")
