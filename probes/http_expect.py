"""What an answer is expected to be, and whether it is."""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any

import re2
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from yarl import URL

from probes import patterns
from probes.faults import Fault
from probes.fields import Duration, Several, Table
from probes.http_exchange import Answer

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False             # a bad pattern is told to its author, not to stderr
_OPTIONS.never_capture = True           # whether it matches is all that is asked; finding groups can take 600 times as long
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:\-]{1,40})", re.IGNORECASE)
# Charsets by which browsers read pages, each with the codec for it, and with its labels (encoding.spec.whatwg.org) in lower
# case without - and _. Nothing else is decoded: Python also has codecs that take quadratic time or that always fail.
_ONE_BYTE: dict[str, str] = {
    "cp1252": "ascii usascii iso88591 latin1 l1 windows1252 cp1252 xcp1252 ansix3.41968 iso88591:1987 cp819 ibm819",
    "cp1250": "windows1250 cp1250 xcp1250",
    "cp1251": "windows1251 cp1251 xcp1251",
    "cp1253": "windows1253 cp1253 xcp1253",
    "cp1254": "windows1254 cp1254 xcp1254 iso88599 latin5 l5",
    "cp1255": "windows1255 cp1255 xcp1255",
    "cp1256": "windows1256 cp1256 xcp1256",
    "cp1257": "windows1257 cp1257 xcp1257",
    "cp1258": "windows1258 cp1258 xcp1258",
    "cp866": "ibm866 cp866 866",
    "cp874": "windows874 dos874 iso885911 tis620",
    "iso8859_2": "iso88592 latin2 l2",
    "iso8859_3": "iso88593 latin3 l3",
    "iso8859_4": "iso88594 latin4 l4",
    "iso8859_5": "iso88595 cyrillic",
    "iso8859_6": "iso88596 arabic",
    "iso8859_7": "iso88597 greek",
    "iso8859_8": "iso88598 iso88598i iso88598e hebrew logical visual",
    "iso8859_10": "iso885910 latin6 l6",
    "iso8859_13": "iso885913",
    "iso8859_14": "iso885914",
    "iso8859_15": "iso885915 latin9 l9",
    "iso8859_16": "iso885916",
    "koi8_r": "koi8r koi8 koi",
    "koi8_u": "koi8u koi8ru",
    "mac_roman": "macintosh mac xmacroman",
    "mac_cyrillic": "xmaccyrillic xmacukrainian",
}
_MORE_BYTES: dict[str, str] = {
    "gb18030": "gb18030 gbk xgbk gb2312 gb231280 csgb2312 chinese euccn",
    "big5hkscs": "big5 big5hkscs cnbig5 xxbig5",
    "cp932": "shiftjis sjis xsjis mskanji ms932 windows31j",
    "euc_jp": "eucjp xeucjp",
    "iso2022_jp": "iso2022jp",
    "cp949": "euckr ksc5601 ksc56011987 ksc56011989 korean windows949 cp949 uhc",
    "utf_16_le": "utf16le utf16 ucs2 unicode",
    "utf_16_be": "utf16be",
}
_CODECS = {label: codec for table in (_ONE_BYTE, _MORE_BYTES) for codec, labels in table.items() for label in labels.split()}
_JSON_VALUES = 200_000                  # more would take more than 0.1 s and 30 MB to read
_KNOWN_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})     # what aiohttp decodes


def compiled(pattern: str) -> Any:
    """A google-re2 pattern for bytes: it takes time linear in the page, whatever the pattern."""
    return patterns.compiled(pattern, _OPTIONS)


def _pattern(pattern: str) -> str:
    compiled(pattern)
    return pattern


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _flat(value: object) -> object:
    """`json = { "status.indicator" = "none" }` and `json.status.indicator = "none"` mean the same."""
    return dict(_leaves(value, "")) if isinstance(value, dict) else value


def _leaves(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _reachable(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ValueError("write the whole address, beginning with https:// or http://")
    return text


FinalUrl = Annotated[str, AfterValidator(_reachable)]
Pattern = Annotated[str, AfterValidator(_pattern)]
_ONE_OR_MORE = WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
Texts = Annotated[Several[Annotated[str, Field(min_length=1)]], BeforeValidator(_listed), _ONE_OR_MORE]
Patterns = Annotated[Several[Pattern], BeforeValidator(_listed), _ONE_OR_MORE]
Statuses = Several[Annotated[int, Field(ge=100, le=599)]]
Value = str | int | float | bool


class Expect(Table):
    """expect = { ... }: what a right answer looks like. Without it: any status from 200 to 299."""

    status: Statuses = Field(default=(), description="allowed status codes; default 200 to 299")
    body_contains: Texts = Field(default=(), description="texts that the page must all have")
    body_not_contains: Texts = Field(default=(), description="texts that the page must not have")
    body_matches: Patterns = Field(default=(), description="re2 patterns that the page must all match somewhere")
    header_matches: dict[str, Pattern] = Field(default={}, description="header = re2 pattern that a value of it matches")
    json_: Annotated[dict[str, Value], BeforeValidator(_flat)] = Field(
        default={}, alias="json", description='"path.to.value" = expected value; list items by number: "items.0.price"',
    )
    final_url: FinalUrl = Field(default="", description="the address after all redirects; * at the end means anything")
    content_type: str = Field(default="", description='such as "text/html"; parameters like charset are not compared')
    max_duration: Duration | None = Field(default=None, gt=0, description="a complete answer that took longer is slow")


@dataclass(frozen=True)
class Page:
    """An answer whose text is looked at: decoded at most once, and only when the bytes alone do not settle it."""

    answer: Answer

    @cached_property
    def _utf8(self) -> bytes:
        return _as_utf8(self.answer)

    def has(self, needle: bytes) -> bool:
        """Whether a text in UTF-8 stands in the page, whatever charset that is in."""
        return needle in self.answer.body or needle in self._utf8

    def matches(self, regex: Any) -> bool:
        """Whether a pattern matches somewhere in it."""
        return bool(regex.search(self.answer.body) or regex.search(self._utf8))


Check = Callable[[Page], Fault | None]


@dataclass(frozen=True, slots=True)
class Expectations:
    """The expectations of one probe, compiled."""

    statuses: frozenset[int]
    checks: tuple[Check, ...]
    max_duration: float | None

    def fault(self, answer: Answer) -> Fault | None:
        """What is wrong with a complete answer, apart from its duration; None when nothing is."""
        if answer.status not in self.statuses:
            said = f"HTTP {answer.status} {answer.phrase}".rstrip()
            title = f'; "{answer.title}"' if answer.title else ""
            return Fault("status", f"{said}, wanted {_ranges(self.statuses)}{title}")
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _KNOWN_ENCODINGS and answer.body:
            return Fault("protocol", f"the answer is encoded as {encoding[:60]}, which was not asked for")
        page = Page(answer)
        for check in self.checks:
            found = check(page)
            if found is not None:
                return found
        return None


def expectations(expect: Expect) -> Expectations:
    """Compile the settings: only what is expected is checked, in the order in which it explains most."""
    checks: list[Check] = []
    if expect.final_url:
        checks.append(_final_url(expect.final_url))
    if expect.content_type:
        checks.append(_content_type(expect.content_type.lower()))
    checks += [_header(name, pattern, compiled(pattern)) for name, pattern in expect.header_matches.items()]
    checks += [_not_contains(text, text.encode()) for text in expect.body_not_contains]
    checks += [_contains(text, text.encode()) for text in expect.body_contains]
    checks += [_matches(pattern, compiled(pattern)) for pattern in expect.body_matches]
    if expect.json_:
        checks.append(_json(expect.json_))
    return Expectations(frozenset(expect.status or range(200, 300)), tuple(checks), expect.max_duration)


def _final_url(wanted: str) -> Check:
    begins = wanted.endswith("*")
    text = wanted[:-1] if begins else str(URL(wanted))

    def check(page: Page) -> Fault | None:
        url = str(page.answer.hop.url)
        right = url.startswith(text) if begins else url == text
        return None if right else Fault("final_url", f"ended at {url}, wanted {wanted}")

    return check


def _content_type(wanted: str) -> Check:
    def check(page: Page) -> Fault | None:
        found = page.answer.media_type
        if found == wanted:
            return None
        return Fault("content_type", f"the content type is {found or 'not given'}, wanted {wanted}")

    return check


def _header(name: str, pattern: str, regex: Any) -> Check:
    def check(page: Page) -> Fault | None:
        values = page.answer.all(name)
        if any(regex.search(value.encode("utf-8", "surrogateescape")) for value in values):
            return None
        said = f"does not match {pattern}: {values[0][:100]}" if values else "is missing"
        return Fault("header", f"header {name} {said}")

    return check


def _contains(text: str, needle: bytes) -> Check:
    def check(page: Page) -> Fault | None:
        if page.has(needle):
            return None
        return Fault("body", f'the page lacks "{text}"{_glimpse(page.answer)}')

    return check


def _not_contains(text: str, needle: bytes) -> Check:
    def check(page: Page) -> Fault | None:
        return Fault("body", f'the page has "{text}"{_glimpse(page.answer)}') if page.has(needle) else None

    return check


def _matches(pattern: str, regex: Any) -> Check:
    def check(page: Page) -> Fault | None:
        if page.matches(regex):
            return None
        return Fault("body", f"the page does not match {pattern}{_glimpse(page.answer)}")

    return check


def _as_utf8(answer: Answer) -> bytes:
    """The page in UTF-8 when it says that it is in another charset that browsers know, else nothing."""
    named = _CHARSET.search(answer.headers.get("Content-Type", ""))
    codec = _CODECS.get(re.sub("[-_]", "", named[1].lower())) if named else None
    if codec is None:
        return b""
    if codec in _ONE_BYTE:
        return codecs.charmap_decode(answer.body, "replace", _characters(codec))[0].encode()
    try:
        # Replacing what is no UTF-16 takes ten times as long as decoding it, and no page has that by mistake.
        return answer.body.decode(codec, "strict" if codec.startswith("utf") else "replace").encode()
    except UnicodeError:
        return b""


@cache
def _characters(codec: str) -> str:
    """The 256 characters of a charset. Decoding with its codec is slow where a page has bytes that it does not know."""
    return bytes(range(256)).decode(codec, "replace")


def _glimpse(answer: Answer) -> str:
    title = answer.title
    return f'; "{title}"' if title else "; the page is empty" if not answer.body else ""


def _json(wanted: Mapping[str, Value]) -> Check:
    def check(page: Page) -> Fault | None:
        body = page.answer.body
        if body.count(b",") + body.count(b"[") + body.count(b"{") > _JSON_VALUES:
            return Fault("json", f"the answer has more than {_JSON_VALUES} values, too many to be looked at")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return Fault("json", f"the answer is not JSON{_glimpse(page.answer)}")
        for path, value in wanted.items():
            found = _at(document, path)
            if not _equal(found, value):
                shown = "is missing" if found is _MISSING else f"is {json.dumps(found, ensure_ascii=False)[:100]}"
                return Fault("json", f"{path} {shown}, wanted {json.dumps(value, ensure_ascii=False)}")
        return None

    return check


_MISSING = object()


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and key.isdecimal() and len(key) < 10 and int(key) < len(document):
            document = document[int(key)]
        else:
            return _MISSING
    return document


def _equal(found: Any, wanted: Value) -> bool:
    # In Python True == 1, in JSON it is not.
    return isinstance(found, bool) == isinstance(wanted, bool) and found is not _MISSING and bool(found == wanted)


def _ranges(statuses: frozenset[int]) -> str:
    if statuses == frozenset(range(200, 300)):
        return "200 to 299"
    return " or ".join(map(str, sorted(statuses)))
