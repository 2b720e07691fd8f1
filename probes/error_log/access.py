"""Requests of real customers, counted out of an access log without looking at each line by itself."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from probes.error_log.engine import compiled
from probes.error_log.tally import Tally

OTHER, CHECKOUT = "other", "checkout"
_MOST_DEEP = 4             # folders of a path that are looked at
_MOST_PLACES = 20_000      # whose group is remembered
# WooCommerce, Magento, Shopware, OpenCart, django-oscar and their like, by the beginning of the path.
GROUPS: Mapping[str, Sequence[str]] = {
    CHECKOUT: ("/checkout*", "/onepage*", "/onestepcheckout*", "/kasse*", "/?wc-ajax=checkout*", "/index.php?route=checkout/*", "/payment*",
               "/order-pay*"),
    "cart": ("/cart*", "/basket*", "/warenkorb*", "/?wc-ajax=*cart*", "/line-item*"),
    "account": ("/account*", "/my-account*", "/customer*", "/login*", "/accounts*", "/index.php?route=account/*"),
    "search": ("/search*", "/catalogsearch*", "/suggest*", "/?s=*", "/index.php?route=product/search*"),
    "catalogue": ("/product*", "/shop*", "/category*", "/catalogue*", "/catalog*", "/detail*", "/navigation*", "/index.php?route=product/*"),
    "api": ("/api*", "/rest*", "/graphql*", "/wp-json*", "/store-api*", "/?wc-ajax=*"),
    "static": ("/static*", "/media*", "/wp-content*", "/wp-includes*", "/bundles*", "/theme*", "/assets*", "/pub*", "/image*", "/favicon*",
               "/robots.txt*"),
}
# Orders that scripts of a page place: Magento's REST, WooCommerce's blocks, Shopware's Store API.
_ORDERS = r'/(?:rest|wp-json|store-api)(?:/[^ "?\n]*)?(?:payment-information|/checkout)[^ "?\n]*'
_PREFIX = re.compile(rb"(?:/index\.php(?=/))?(?:/[a-z]{2}(?:[-_][A-Za-z]{2})?(?=/))?")      # of the language; it says nothing of the page
_FIRST, _FIRST_LINES = 8192, 5                     # bytes and lines of a piece that tell whether times are logged
_METHODS = frozenset((b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_REQUEST = re.compile(rb'"[A-Z]+ [^"\n]{1,1000}" \d\d\d ')
_REASONS = {str(status.value).encode(): status.phrase for status in HTTPStatus if status >= 500}


FAILED = r'" 5\d\d |"POST [^"\n]*" 4\d\d '            # lines (re2) that must be looked at one by one: failed by the server, or a POST refused


def pattern(slow: float) -> str:
    """These, and what took longer than this (s), where the time stands at the end of lines."""
    whole = int(slow)
    if slow < 1:
        number = rf"(?:0?\.[{int(slow * 10)}-9]\d*|[1-9]\d*\.\d+)"
    elif whole < 10:
        number = rf"(?:[{whole}-9]|[1-9]\d+)\.\d+"
    else:
        number = rf"[1-9]\d{{{len(str(whole)) - 1},}}\.\d+"
    return rf'{FAILED}|[ "]{number}"?\r?$'


class Failed(NamedTuple):
    """A request that the server failed."""

    method: bytes
    group: str
    status: bytes

    def told(self) -> str:
        """As the message of an event. The path is not in it: a catalogue has thousands."""
        return f"{self.method.decode()} of {self.group} answered: {_REASONS.get(self.status, 'server error')}"

    @staticmethod
    def shown(line: bytes) -> str:
        """The request and the answer out of a line, without who it was."""
        found = _REQUEST.search(line)
        return found[0].decode("utf-8", "replace").strip() if found else ""


class Requests:
    """Counts requests by group of paths; `slow` in s."""

    def __init__(self, groups: Mapping[str, Sequence[str]] | None, slow: float) -> None:
        self._slow, self._orders = slow, compiled(f"^{_ORDERS}") if groups is None else None
        groups = GROUPS if groups is None else groups
        self._groups = [(name, compiled("|".join(map(_glob, globs)))) for name, globs in groups.items() if globs]
        place = _place([glob for globs in groups.values() for glob in globs]).encode()
        place = rb"(?:" + _ORDERS.encode() + rb"|" + place + rb")" if self._orders else place
        request = rb'"([A-Z]+ (?:https?://[^/ "\n]+)?' + _PREFIX.pattern + place + rb")"
        self._places, self._line = re.compile(request), re.compile(request + rb'[^"\n]*" (\d\d\d) ')
        self._known: dict[bytes, tuple[str, bool]] = {}

    def count(self, data: bytes, tally: Tally) -> None:
        """Add up the requests of a piece of the log."""
        for place, requests in Counter(self._places.findall(data)).items():
            group, order = self._of(place)
            tally.requests[group] += requests
            if order:
                tally.checkout_posts += requests

    @staticmethod
    def timed(data: bytes, tally: Tally) -> bool:
        """Whether lines end in how long the request took."""
        if not tally.timed:
            tally.timed = any(_took(line) >= 0 for line in data[:_FIRST].split(b"\n")[:_FIRST_LINES])
        return tally.timed

    def look(self, line: bytes, tally: Tally) -> Failed | None:
        """Take in a line that `pattern` has found; what the server failed at, if it did."""
        found = self._line.search(line)
        group, order = self._of(found[1]) if found else (OTHER, False)
        if tally.timed and _took(line) >= self._slow:
            tally.slow[group] += 1
        if not found:
            return None
        if order and found[2] >= b"400":
            tally.failed_checkout_posts += 1
        if found[2][:1] != b"5":
            return None
        tally.server_errors[group] += 1
        return Failed(_method(found[1].partition(b" ")[0]), group, found[2])

    def _of(self, request: bytes) -> tuple[str, bool]:
        """The group of "POST /checkout", and whether it is an attempt to order something."""
        known = self._known.get(request)
        if known is None:
            if len(self._known) >= _MOST_PLACES:
                self._known.clear()
            method, _, place = request.partition(b" ")
            group = self.group(place if place.startswith(b"/") else b"/" + place.split(b"/", 3)[3])
            known = self._known[request] = group, group == CHECKOUT and method == b"POST"
        return known

    def group(self, place: bytes) -> str:
        """The first group that a path, with its beginning of a query, is in."""
        place = place[len(_PREFIX.match(place)[0]):]  # type: ignore[index]
        if self._orders and self._orders.search(place):
            return CHECKOUT
        return next((name for name, globs in self._groups if globs.search(place)), OTHER)


def told(method: bytes, path: bytes, status: bytes) -> str:
    """The message of a request that the server failed, in the usual groups of paths, wherever it was logged."""
    return Failed(_method(method), _USUAL.group(path), status).told()


def _method(name: bytes) -> bytes:
    """One of a few."""
    return name if name in _METHODS else b"OTHER"


def _place(globs: Sequence[str]) -> str:
    """A pattern for as much of a path and its query as these need: the less, the fewer different ones there are."""
    depth = min(max((glob.partition("?")[0].rstrip("*").count("/") for glob in globs), default=1), _MOST_DEEP)
    pairs = [glob.partition("?")[2].partition("=") for glob in globs if "?" in glob]
    valued = {key for key, _, value in pairs if value.strip("*")}
    queries = [rf"{re.escape(key)}=" + (r'[^& "\n]*' if key in valued else "") for key in sorted({key for key, _, _ in pairs} - {""})]
    query = rf"(?:\?(?:{'|'.join(queries)}))?" if queries else ""
    return r'/[^/ ?"\n]*' + r'(?:/[^/ ?"\n]*)?' * (depth - 1) + query


def _took(line: bytes) -> float:
    """The time (s) at the end of a line; -1 when none stands there."""
    last = line[line.rfind(b" ") + 1:].rstrip(b"\r")
    if last[:1] == b'"' == last[-1:]:                  # the end of a quoted text with blanks in it is none
        last = last[1:-1]
    if b"." not in last:
        return -1.0
    try:
        return float(last)
    except ValueError:
        return -1.0


def _glob(glob: str) -> str:
    return "^" + "".join(".*" if char == "*" else re.escape(char) for char in glob) + "$"


_USUAL = Requests(None, 0)
