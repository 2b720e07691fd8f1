"""Taking secrets and personal data out of any text that leaves a probe.

Everything here works in time linear in the length of the text: what comes from a shop is hostile.
"""

import base64
import html
import json
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus

LIMIT = 400                # characters of the result; enough for a person to see what happened
_READ = 4096               # characters of the input that are looked at: about 25 ms for the most awkward text
_HIDDEN = "[hidden]"

_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-api-key|x-auth-token)([\"']?[ \t]{0,8}[:=][ \t]{0,8})"
    r"(?:\"[^\"\r\n]*\"?|'[^'\r\n]*'?|[^\r\n]*)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)([ \t]{1,8})[A-Za-z0-9+/=_.~\-]{6,}", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/?#\s@\"'<>]{1,256}@")
# `api_key=…`, `"password": "…"`, `&sig=…`: the name may have a prefix, so only its end is matched. The value may be cut
# off by the end of the text.
_PAIR = re.compile(
    r"(token|key|secret|passw(?:or)?d|passwort|passphrase|pwd|sig|signature|sess(?:ion)?_?id|phpsessid|cvv2?|cvc2?|credentials?)"
    r"(\\?[\"']?[ \t]{0,8}(?:=|:|%3D)[ \t]{0,8}\\?[\"']?)([^&\s\"'\\;,<>(){}\[\]]+)",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[\w.+\-]{1,64}(?:@|%40)(?:[\w\-]{1,63}\.){1,8}[A-Za-z0-9\-]{2,24}")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|[0-9a-fA-F:]{0,39}::[0-9a-fA-F:.]{0,39})(?![\w:])",
)

# Digits with at most two separators between them, plain, URL-, HTML- or JSON-escaped.
_SEPARATOR = r"(?:[ .\-+_\u00a0\u2009\u202f\u2010-\u2014\t]|%20|%2[bdBD]|&nbsp;|\\u00[aA]0|\\u0020|\\t)"
_DIGITS = re.compile(rf"(?<![0-9])[0-9](?:{_SEPARATOR}{{0,2}}[0-9])+")
_GROUP = re.compile(rf"([0-9]+)|{_SEPARATOR}")
_LONGEST_CARD = 19

# What a terminal, a mail client or a chat would act on instead of showing: controls, line separators, text direction.
_UNSEEN = ((0, 0x20), (0x7F, 0xA0), (0xAD, 0xAE), (0x200B, 0x2010), (0x2028, 0x202F), (0x2060, 0x2070), (0xFEFF, 0xFF00))
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for span in _UNSEEN for code in range(*span)}
_SPACE = re.compile(r"[ \t\r\n]+")


def scrub(text: str, secrets: tuple[str, ...] = (), *, limit: int = LIMIT, ips: bool = False) -> str:
    """One line without secrets, tokens, card numbers and e-mail addresses, at most `limit` characters.

    `secrets` are values known to be secret: they are also found when escaped for a URL, HTML, JSON or as Base64.
    `ips` hides IP addresses too (they are personal data once the text leaves the host).
    """
    text = _cut(text, max(_READ, 4 * limit), secrets)
    for form in _forms(secrets):
        text = text.replace(form, _HIDDEN)
    text = _HEADER.sub(rf"\1\2{_HIDDEN}", text)
    text = _SCHEME.sub(rf"\1\2{_HIDDEN}", text)
    text = _USERINFO.sub(rf"\1{_HIDDEN}@", text)
    text = _PAIR.sub(rf"\1\2{_HIDDEN}", text)
    text = _DIGITS.sub(_hide_cards, text)
    text = _EMAIL.sub("[e-mail]", text)
    if ips:
        text = _IPV6.sub("[ip]", _IPV4.sub("[ip]", text))
    text = _SPACE.sub(" ", text).strip().translate(_SHOWN)
    text = text.encode("utf-8", "backslashreplace").decode()     # lone surrogates cannot be stored or sent
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _cut(text: str, length: int, secrets: tuple[str, ...]) -> str:
    """The beginning of a text, without the piece at its end that could be the first half of a secret."""
    if len(text) <= length:
        return text
    return text[: length - max([64, *(4 * len(secret) for secret in secrets)])]


@lru_cache(maxsize=1024)
def _forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    forms = {form for secret in secrets if secret for form in _spellings(secret)}
    return tuple(sorted(forms, key=len, reverse=True))           # the longest first: one may contain another


def _spellings(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {secret, quote(raw), quote(raw, safe=""), quote_plus(raw), quote(raw, safe="").lower(), html.escape(secret)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    for skipped in range(3):
        # Inside a longer Base64 text (`user:password`) a secret may begin at any of three offsets, and its first and
        # last characters are mixed with its neighbours': what is left in the middle is what can be recognised.
        code = base64.b64encode(b"\0" * skipped + raw).decode().rstrip("=")
        inner = code[-(-skipped * 8 // 6) : len(code) - (1 if (skipped + len(raw)) % 3 else 0)]
        if len(inner) >= 4:
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def _hide_cards(match: re.Match[str]) -> str:
    """A run of digits with its card numbers reduced to their last four digits.

    A number has to begin and end where a group of digits does: an order number of 25 digits contains no card.
    """
    text = match[0]
    if sum(char.isdigit() for char in text) < 13:
        return text
    groups = [(found.start(), found.end(), found[1]) for found in _GROUP.finditer(text) if found[1]]
    shown, start, position = [], 0, 0
    while start < len(groups):
        end, number = _card_at(groups, start)
        if not number:
            start += 1
            continue
        shown.append(f"{text[position:groups[start][0]]}[card …{number[-4:]}]")
        position, start = groups[end][1], end + 1
    return "".join(shown) + text[position:]


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
