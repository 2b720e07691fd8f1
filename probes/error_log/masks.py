"""Taking out of a message what differs each time: numbers, identifiers, paths, addresses, dates and quoted values become "*".

What is masked depends neither on which digits there are nor on how many: the scanner knows an event again by its bytes without digits. So
the first step makes each run of digits one "0", and only then is looked at what the words are.
"""

import re

LOOKED_AT = 1000           # characters of a message before its digits are run together
KEPT = 400                 # characters of a message after that; more than half of it would have to be digits to see the first limit
_LONGEST_NAME = 48         # characters of a quoted name that is kept
_BEFORE = 40               # characters before a quoted text that tell whether it is a name

_DIGITS = re.compile(r"\d+")
_PLACEHOLDER = re.compile(r"\[(?:card …\d+|phone|ip|e-mail|hidden)\]")          # what scrubbing leaves
_NUMBERS = re.compile(r"(?<!\w)[-+]?0(?:[-.:/,+ xTZ]{1,3}0)*Z?(?!\w)")          # dates, times, addresses, decimals, phone numbers, lists
_LIST = re.compile(r"\*(?: ?[,;|/+&x:.-]? ?\*)+")

_ID_WORD = r"(?<![A-Za-z0])[A-Za-z0]*0[A-Za-z0]*"                               # a word with a number in it
_HEX_WORD = r"(?<![A-Za-z0])(?:[a-f]{8,}|[A-F]{4,})(?![A-Za-z0])"
_STEM = re.compile(r"([A-Za-z]{3,})0")
_HEX = re.compile(r"[A-Fa-f]+")
_WORDS = re.compile(f"{_ID_WORD}|{_HEX_WORD}")
# Pieces of a UUID or of a fingerprint that happen to have no number.
_HEX_NEIGHBOURS = re.compile(r"(?<![A-Za-z*])(?:[a-fA-F]{1,12}[-_:])*\*(?:[-_:.](?:\*|[a-fA-F]{1,12}(?![A-Za-z])))+")

_DOMAINS = "com|net|org|de|example|io|local|internal|eu|at|ch|fr|nl|it|es|pl|uk|co|shop|dev|app|cloud"
_HOST = re.compile(rf"(?<![\w.])(?:[\w-]+\.)+(?:{_DOMAINS})(?::0)?(?![\w.(])")
_PART = r"[\w.@%+~=,$*-]+"
_FILE = re.compile(
    r"[^/\\]*\.(?:php|phtml|inc|py|[mc]?js|ts|rb|java|html?|twig|tpl|xml|ya?ml|ini|conf|cnf|so|sock|jinja0?|j0|erb|liquid|latte|sql|css|vue)")

# What may vary, in the order in which it is tried at each place.
_TOKEN = re.compile("|".join([
    r"""(?P<quoted>(?<!\w)(?:'[^'\n]{0,200}'|"[^"\n]{0,200}"|`[^`\n]{0,200}`|“[^”\n]{0,200}”|«[^»\n]{0,200}»)(?!\w))""",
    r"""(?P<url>\b[a-z][a-z0]{1,9}://[^\s"'<>)\]}]+)""",
    (rf"""(?P<path>(?<![\w*.])(?:[A-Z]:)?(?:[/\\]{_PART}){{2,}}[/\\]?|(?<![\w*.:/\\])/{_PART}[/\\]?(?:\?[^\s"']*)?"""
     r"""|(?<![\w*/\\])(?:[\w.@%+~-]+/)+[\w.@%+~-]+\.[a-z]{2,6})"""),
    rf"(?P<host>{_HOST.pattern})",
    r"(?P<long>(?<![A-Za-z0-9+/=_-])(?=[A-Za-z+/=_-]*0)[A-Za-z0-9+/=_-]{24,})",
    rf"(?P<word>{_ID_WORD})",
    rf"(?P<hex>{_HEX_WORD})"]))

# A name of something in the code tells errors apart; a value, which a customer or a computer has put in, does not.
_NAME = re.compile(r"[A-Za-z_$\\@.][\w$\\.:@()>\[\]*#-]*")
_CODELIKE = re.compile(r"[a-z][A-Z]|[A-Za-z]_[A-Za-z]|::|->|\\[A-Z]|\(\)|[A-Za-z]\.[A-Za-z]|^[$_]")
_SHORT_CODE = re.compile(r"[A-Z]{2,3}")            # a country, currency, language or size
_TELLS_NAME = re.compile(
    r"(?:key|index|offset|column|field|property|attribute|method|function|class|interface|trait|module|table|view|relation|reading|setting|name|named"
    r"|argument|parameter|variable|constant|constraint|zone|template|tag|filter|command|option|extension|plugin|block|service|type|import|for|undefined"
    r"|procedure|trigger|schema|role|\)|reverse|layout|entity|model|operator|event|hook|queue|read|upstream)[ :=]{0,2}\(?$", re.IGNORECASE)
_TELLS_VALUE = re.compile(
    r"(?:entry|user|value|literal|country|customer|host|email|mail|voucher|coupon|code|number|order|product|sku|city|street|term|query|search|given|got"
    r"|was|is|string|values|header|[=<>\d]|like)[ :=]{0,2}\(?$", re.IGNORECASE)


def masked(text: str) -> str:
    """A message's template, of its first 400 characters."""
    text = _PLACEHOLDER.sub("0", text[:LOOKED_AT])
    text = _NUMBERS.sub("0", _DIGITS.sub("0", text)[:KEPT])
    text = _TOKEN.sub(_token, text)
    return _LIST.sub("*", _HEX_NEIGHBOURS.sub("*", text))


def plain(name: str) -> str:
    """A name of a file, function or module without numbers and hashes."""
    return _LIST.sub("*", _WORDS.sub(_word, _DIGITS.sub("0", name)))


def _token(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "word":
        return _word(found)
    if kind == "path":
        return _path(found[0])
    if kind == "quoted":
        whole = found[0]
        return whole[0] + _quoted(whole[1:-1], found.string[max(0, found.start() - _BEFORE):found.start()]) + whole[-1]
    return "*"


def _word(found: re.Match[str]) -> str:
    """ "item0" keeps its letters; what may be a piece of an identifier does not."""
    stem = _STEM.fullmatch(found[0])
    return f"{stem[1]}*" if stem and not _HEX.fullmatch(stem[1]) and not stem[1].isupper() else "*"


def _path(path: str) -> str:
    """The name of a file of code, and of a path that is not absolute its folders too; "*" for any other."""
    parts = path.partition("?")[0].replace("\\", "/").split("/")
    if not _FILE.fullmatch(parts[-1]):
        return "*"
    kept = ["*" if "0" in part else part for part in parts]
    return kept[-1] if not parts[0] or ":" in parts[0] else "/".join(kept)


def _quoted(inside: str, before: str) -> str:
    """What of a quoted text is kept."""
    if not inside:
        return ""
    if len(inside) > _LONGEST_NAME or not _NAME.fullmatch(inside):
        return _path(inside) if "/" in inside and " " not in inside else "*"
    if _TELLS_VALUE.search(before) or _HOST.fullmatch(inside) or _SHORT_CODE.fullmatch(inside):
        return "*"
    if _TELLS_NAME.search(before) or _CODELIKE.search(inside) or not before.strip():
        return plain(inside)
    return "*"
