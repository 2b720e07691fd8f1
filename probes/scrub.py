"""Taking secrets and personal data out of any text that leaves a probe, the daemon or the command line.

By value: what was once read as a secret is known from then on (`know`), in every spelling. By shape: what looks like a
credential, a card number or a person's data. Everything here works in time linear in the length of the text: what comes from
a shop is hostile.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from threading import Lock
from urllib.parse import quote, quote_plus

LIMIT = 400                # characters of the result; enough for a person to see what happened
_READ = 4096               # characters of the input that are looked at: about 25 ms for the most awkward text
_HIDDEN = "[hidden]"
_SHORTEST, _WORD = 4, 8    # characters: a shorter secret is in every text; one shorter than a word is hidden as a whole word only
_PIECE = 12                # characters of a piece that is taken for secret by itself
_MOST_KNOWN = 4096         # values; the older half is forgotten when there are more

_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-api-key|x-auth-token)([\"']?[ \t]{0,8}[:=][ \t]{0,8})"
    r"(?:\"[^\"\r\n]*\"?|'[^'\r\n]*'?|[^\r\n]*)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)([ \t]{1,8})[A-Za-z0-9+/=_.~\-]{6,}", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/?#\s\"'<>]{1,256}@")
_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END)[\s\S])*(?:-----END[A-Z0-9 ]{0,60}(?:-----)?)?")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*){1,4}")
# What well-known services begin their keys with: GitHub, GitLab, Slack, Stripe, Standard Webhooks, AWS, Google, ntfy, SendGrid.
_SERVICE_KEY = re.compile(
    r"\b(?:gh[oprsu]_|github_pat_|glpat-|xox[abeoprs]-|[rs]k_(?:live|test)_|whsec_|AKIA|AIza|tk_|SG\.)[A-Za-z0-9_\-+/=]{10,}")
# `api_key=…`, `"password": "…"`, `&sig=…`: the name may have a prefix, so only its end is matched. The value may be cut
# off by the end of the text.
_PAIR = re.compile(
    r"(token|key|secret|passw(?:or)?d|passwort|passphrase|pwd|sig|signature|sess(?:ion)?_?id|phpsessid|cvv2?|cvc2?|credentials?)"
    r"(\\?[\"']?[ \t]{0,8}(?:=|:|%3D)[ \t]{0,8}\\?[\"']?)([^&\s\"'\\;,<>(){}\[\]]+)",
    re.IGNORECASE,
)
# The three or four digits on the back of a card: named, or behind the number.
_CODE = re.compile(r"\b(cvv2?|cvc2?|csc|security code|card code|pr[\u00fcu]e?f(?:ziffer|nummer))(\W{1,4})\d{3,4}(?!\d)", re.IGNORECASE)
_BEHIND = re.compile(
    r"(\[card …\d{4}\])(?:[^0-9\[]{1,12}(?:0?[1-9]|1[0-2]) ?[/\-.|] ?(?:20)?\d\d[^0-9\[]{1,12}|[ ]?[|;,:/][ ]?)\d{3,4}(?!\d)")
_PHONE = re.compile(r"(?<![\w+.])(?:\+|%2[bB])[1-9](?:[ ().\-/\u00a0]{0,2}[0-9]){7,14}(?![0-9])")
_NAMED_PHONE = re.compile(
    r"\b((?:tele)?(?:phone|fon|fax)|tel|mobile|handy)(\\?[\"']?[ \t]{0,8}[=:][ \t]{0,8}\\?[\"']?)\(?[0-9][0-9 ()/.\-]{5,18}[0-9]", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+\-]{1,64}(?:@|%40)(?:[\w\-]{1,63}\.){1,8}[A-Za-z0-9\-]{2,24}")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|[0-9a-fA-F:]{0,39}::[0-9a-fA-F:.]{0,39})(?![\w:])",
)

# Digits with at most two separators between them, plain, URL-, HTML- or JSON-escaped.
_SEPARATOR = (
    r"(?:[ .\-+_\u00a0\u2009\u202f\u2010-\u2014\t\r\n]|%20|%2[bdeBDE]|%0[9aAdD]|%[cC]2%[aA]0|%[eE]2%80%[89aA][0-9a-fA-F]"
    r"|&(?:nbsp|thinsp|#160|#xa0|#xA0|#32|#45);|\\u(?:00[aA]0|0020|002[dD]|2009|202[fF]|201[0-4])|\\[tnr])"
)
_DIGITS = re.compile(rf"(?<![0-9])[0-9](?:{_SEPARATOR}{{0,2}}[0-9])+")
_GROUP = re.compile(rf"([0-9]+)|{_SEPARATOR}")
_LONGEST_CARD = 19

# What a terminal, a mail client or a chat would act on instead of showing: controls, line separators, text direction.
_UNSEEN = ((0, 0x20), (0x7F, 0xA0), (0xAD, 0xAE), (0x200B, 0x2010), (0x2028, 0x202F), (0x2060, 0x2070), (0xFEFF, 0xFF00))
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for span in _UNSEEN for code in range(*span)}
_SPACE = re.compile(r"[ \t\r\n]+")


_ASCII_DIGITS = {0xFF10 + digit: str(digit) for digit in range(10)}      # full-width ones, as Japanese keyboards write them


class _Finder:
    """Finds secrets in all their spellings: whole, or so much of their beginning that somebody must have cut them off.

    What it costs hardly depends on their number: spellings are found by their first characters.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._by_head: dict[str, list[str]] = {}
        self._words: set[str] = set()
        self._word: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _spellings(secret)}
        for form in forms:
            if len(form) >= _WORD:
                self._by_head.setdefault(form[:_WORD], []).append(form)
        if words := {form for form in forms if _SHORTEST <= len(form) < _WORD} - self._words:
            self._words |= words
            self._word = re.compile(rf"(?<![\w\-])(?:{'|'.join(map(re.escape, self._words))})(?![\w\-])")

    def hide(self, text: str) -> str:
        by_head = self._by_head
        starts = [at for at in range(len(text) - _WORD + 1) if text[at : at + _WORD] in by_head]
        shown: list[str] = []
        position = 0
        for start in starts:
            if start >= position and (length := max(map(_shared(text, start), by_head[text[start : start + _WORD]]))):
                shown += text[position:start], _HIDDEN
                position = start + length
        text = "".join(shown) + text[position:]
        return self._word.sub(_HIDDEN, text) if self._word else text


def _shared(text: str, start: int) -> Callable[[str], int]:
    """How many characters of a spelling stand at `start`; 0 when they are too few. A text may have been cut: half of a secret is one too."""
    def length(form: str) -> int:
        if text.startswith(form, start):
            return len(form)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(form, text[start : start + len(form)], strict=False)))
        return same if len(form) >= 2 * _WORD and 2 * same >= len(form) else 0
    return length


_values: dict[str, None] = {}              # what is known to be secret, the oldest first
_known = _Finder()
_lock = Lock()                             # a configuration is read in a thread


def know(*values: str) -> None:
    """From now on these values are hidden wherever they turn up: in logs, evidence, messages, answers.

    This is the one thing that this module remembers. Whoever reads a secret calls it, so none can be forgotten on the way.
    Of a web address only what may be its key is secret; of several lines each one is.
    """
    global _known  # noqa: PLW0603 - a process has one set of secrets, and the scrubber is called from everywhere
    with _lock:
        new = [part for value in values for part in _parts(value) if part not in _values]
        _values.update(dict.fromkeys(new))
        _known.add(new)
        if len(_values) > _MOST_KNOWN:
            for value in list(_values)[: _MOST_KNOWN // 2]:
                del _values[value]
            _known = _Finder(_values)


@lru_cache(maxsize=1024)
def _parts(value: str) -> frozenset[str]:
    """What of a secret is secret by itself: the value, and its long pieces, as the token in a Cookie header or in a web address."""
    value = value.strip()
    place, _, behind = value.partition("://")[2].partition("/")
    whole = {f"/{behind}", place.rpartition("@")[0].partition(":")[2]} if place else {value}      # an address's beginning may stand anywhere
    pieces = {piece for one in whole for piece in re.split(r"[\s/?&=#:;,@]+", one)} | {line.strip() for line in value.splitlines() if not place}
    parts = whole | {piece for piece in pieces if len(piece) >= _PIECE}
    return frozenset(part for part in parts if len(part) >= _SHORTEST and not part.startswith("-----"))


def scrub(text: str, secrets: tuple[str, ...] = (), *, limit: int = LIMIT, ips: bool = False) -> str:
    """One line without secrets, tokens, card numbers, mail addresses and phone numbers, at most `limit` characters.

    `secrets` are values known to be secret beside those of `know`: all are also found when escaped for a URL, HTML, JSON or
    as Base64. `ips` hides IP addresses too (they are personal data once the text leaves the host).
    """
    text = redact(_cut(text, max(_READ, 4 * limit), secrets), secrets, ips=ips)
    text = visible(_SPACE.sub(" ", text).strip())
    text = text.encode("utf-8", "backslashreplace").decode()     # lone surrogates cannot be stored or sent
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(text: str) -> str:
    """The text with what a terminal, a mail client or a chat would act on written out: `\\x1b` for an escape."""
    return text.translate(_SHOWN)


def redact(text: str, secrets: tuple[str, ...] = (), *, ips: bool = False) -> str:
    """The whole text with its lines, without what `scrub` hides: for a traceback on stderr. As long as the text is."""
    text = _finder(secrets).hide(_known.hide(text)) if secrets else _known.hide(text)
    if not text.isascii():
        text = text.translate(_ASCII_DIGITS)
    text = _KEY_BLOCK.sub(_HIDDEN, text)
    text = _HEADER.sub(rf"\1\2{_HIDDEN}", text)
    text = _SCHEME.sub(rf"\1\2{_HIDDEN}", text)
    text = _USERINFO.sub(rf"\1{_HIDDEN}@", text)
    text = _JWT.sub(_HIDDEN, text)
    text = _SERVICE_KEY.sub(_HIDDEN, text)
    text = _PAIR.sub(rf"\1\2{_HIDDEN}", text)
    text = _DIGITS.sub(_hide_cards, text)
    text = _BEHIND.sub(rf"\1 {_HIDDEN}", _CODE.sub(rf"\1\2{_HIDDEN}", text))
    if "@" in text or "%40" in text:
        text = _EMAIL.sub("[e-mail]", text)
    text = _NAMED_PHONE.sub(r"\1\2[phone]", _PHONE.sub("[phone]", text))
    return _IPV6.sub("[ip]", _IPV4.sub("[ip]", text)) if ips else text


def _cut(text: str, length: int, secrets: tuple[str, ...]) -> str:
    """The beginning of a text, without the piece at its end that could be the first half of a secret."""
    if len(text) <= length:
        return text
    return text[: length - min(max([64, *(4 * len(secret) for secret in secrets)]), length // 2)]


@lru_cache(maxsize=1024)
def _finder(secrets: tuple[str, ...]) -> _Finder:
    return _Finder(part for secret in secrets for part in _parts(secret))


def _spellings(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {secret, quote(raw), quote(raw, safe=""), quote_plus(raw), quote(raw, safe="").lower(), html.escape(secret)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    forms |= {form.replace("/", "\\/") for form in forms} | {html.escape(secret).replace("&#x27;", sign) for sign in ("&#39;", "&#039;")}   # PHP
    for skipped in range(3):
        # Inside a longer Base64 text (`user:password`) a secret may begin at any of three offsets, and its first and
        # last characters are mixed with its neighbours': what is left in the middle is what can be recognised.
        code = base64.b64encode(b"\0" * skipped + raw).decode().rstrip("=")
        inner = code[-(-skipped * 8 // 6) : len(code) - (1 if (skipped + len(raw)) % 3 else 0)]
        if len(inner) >= _WORD:
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def card_numbers(text: str) -> list[str]:
    """The card numbers in a text, in order, as digits alone: however they are grouped or escaped there."""
    if not text.isascii():
        text = text.translate(_ASCII_DIGITS)
    return [number for match in _DIGITS.finditer(text) for _, _, number in _cards_in(match[0])]


def _hide_cards(match: re.Match[str]) -> str:
    """A run of digits with its card numbers reduced to their last four digits."""
    text, position = match[0], 0
    shown: list[str] = []
    for start, end, number in _cards_in(text):
        shown.append(f"{text[position:start]}[card …{number[-4:]}]")
        position = end
    return "".join(shown) + text[position:]


def _cards_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Where card numbers begin and end in a run of digits, and their digits.

    A number has to begin and end where a group of digits does: an order number of 25 digits contains no card.
    """
    if sum(char.isdigit() for char in text) < 13:
        return
    groups = [(found.start(), found.end(), found[1]) for found in _GROUP.finditer(text) if found[1]]
    start = 0
    while start < len(groups):
        end, number = _card_at(groups, start)
        if number:
            yield groups[start][0], groups[end][1], number
            start = end
        start += 1


def _card_at(groups: list[tuple[int, int, str]], start: int) -> tuple[int, str]:
    """Where the longest card number that begins with this group ends, and its digits; "" when there is none."""
    number, found = "", (start, "")
    for end in range(start, len(groups)):
        number += groups[end][2]
        if len(number) > _LONGEST_CARD:
            break
        if _is_card(number):
            found = (end, number)
    return found


def _is_card(number: str) -> bool:
    """Whether digits are a card number: length and beginning as issuers give them, and a right check digit (Luhn)."""
    length = len(number)
    if length < 13 or not _issued(number, length):
        return False
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return (doubled + sum(map(int, number[-1::-2]))) % 10 == 0


def _issued(number: str, length: int) -> bool:
    """Whether a scheme (ISO/IEC 7812 prefixes) gives out numbers with this beginning and length."""
    four, two = int(number[:4]), int(number[:2])
    if number[0] == "4":
        return length in (13, 16, 19)                                          # Visa
    if two in (34, 37):
        return length == 15                                                    # American Express
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return length == 16                                                    # Mastercard
    if two in (36, 38, 39) or 3000 <= four <= 3059 or four == 3095:
        return length == 14                                                    # Diners Club
    if 3528 <= four <= 3589 or four == 6011 or 6440 <= four <= 6599 or two == 62 or 2200 <= four <= 2204:
        return length >= 16                                                    # JCB, Discover, UnionPay, Mir
    return four in (5018, 5020, 5038, 5893, 6304) or two == 67                 # Maestro
