"""Why a run was not ok: the closed list. Metrics, rules and docs/reasons.md use these names and no others."""

from probes.sample import Outcome

REASONS: dict[str, str] = {
    # reaching the shop
    "dns": "the name servers say that the host name has no address",
    "dns_timeout": "the name servers did not answer in time",
    "connect_refused": "the server refused the connection: nothing listens on that port",
    "connect_timeout": "the server did not accept the connection in time",
    "connect_failed": "the connection could not be made for another reason, such as an unreachable host",
    "tls_expired": "the certificate has expired",
    "tls_not_yet_valid": "the certificate is not valid yet",
    "tls_hostname": "the certificate belongs to another host name",
    "tls_untrusted": "the certificate is not signed by anyone whom customers' devices trust",
    "tls_protocol": "the TLS handshake failed, for example because the server only speaks an outdated version",
    "tls_min_days": "the certificate expires sooner than tls.min_days_left allows",
    # the answer
    "timeout": "the answer was not complete when the time-out ended",
    "disconnected": "the server closed the connection before it had answered completely",
    "protocol": "the answer is not valid HTTP: bad framing, wrong lengths, too large headers, undecodable content",
    "too_large": "the page is larger than max_body, after decompression",
    "redirects": "the redirects loop, are too many, or lead where they must not",
    "maintenance": "the shop shows a maintenance page",
    # what was expected of the answer
    "status": "the status code is not among the expected ones",
    "body": "the page lacks a text that it must have, or has one that it must not have",
    "header": "a response header is missing or has an unexpected value",
    "json": "the answer is not JSON, or a value in it differs from what was expected",
    "final_url": "the redirects ended at another address than expected",
    "content_type": "the answer is of another content type than expected",
    "slow": "the answer was right and complete, but took longer than expect.max_duration",
    # what a browser saw of the shop
    "step": "a step of the checkout flow did not come out: something was not there, or could not be clicked or filled",
    "finding": "every step came out, but the browser saw something that fail_on calls a failure",
    # the shop's logs
    "errors": "more errors were logged in one run than max_events allows",
    # our own doing: never turns the shop red
    "challenged": "a bot wall, captcha or rate limit kept this monitor out; customers may well get through",
    "local_resources": "this machine ran out of file descriptors, memory or ports",
    "local_network": "this machine has no network, no route, no name server, or its own firewall refused",
    "uplink": "this monitor itself has lost its network: nothing else that it knows can be reached either",
    "suspended": "the machine, or this program, stood still during the run",
    "log_unreadable": "a log that is to be followed cannot be read: missing rights, a missing folder, or storage that does not answer",
    "browser": "there is no browser, it could not be started, or it died or hung during the run",
    "flow": "the checkout flow itself is wrong: a mistake in its file, a missing secret or variable, or a host that is not among hosts",
    "refused": "a safety rule refused the run: a card that is no test card, or a second order",
    "capped": "max_runs_per_day is reached: no further run is made for now",
    "settings": "a secret, certificate or key file that the probe needs cannot be read",
    "internal": "an error in Tillwatch itself",
    "deadline": "the run did not end by itself and was stopped by the scheduler",
}

OURS = frozenset({"challenged", "local_resources", "local_network", "uplink", "suspended", "log_unreadable", "settings",
                  "browser", "flow", "refused", "capped", "internal", "deadline"})


def outcome(reason: str) -> Outcome:
    """Whose doing a reason is; no reason means that all was well."""
    if not reason:
        return Outcome.OK
    return Outcome.BROKEN if reason in OURS else Outcome.FAILED
