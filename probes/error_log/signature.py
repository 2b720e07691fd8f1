"""The name under which equal errors are counted, without what differs each time and without what is personal."""

import re
from hashlib import blake2b

from probes.error_log.event import Event, Frame
from probes.error_log.masks import LOOKED_AT, masked, plain
from probes.error_log.modules import module_of, top_own
from probes.scrub import redact, scrub, visible

LONGEST_NAME = 160         # characters of a signature
LONGEST_EXAMPLE = 400
_LONGEST_PART = 48         # characters of the exception, of the frame and of the module each
_LONGEST_PATH = 200        # characters of a path or name, from its end
_READ = 5000               # characters of an event of which an example is made; scrubbing looks at the beginning
_HALF_SECRET = 64          # characters at the end of what was cut that could be a piece of a secret

_WRAPPED = re.compile(r'stderr: "(?:NOTICE: )?(?:PHP message: )?([^\n]*?)(?:" while [^"\n]*)?"?$')

# Who somebody is and where he lives, as forms, JSON and dumps name it.
_PERSON = re.compile(
    r"(?<![a-z])((?:(?:first|last|sur|full|given|family|middle|customer|billing|shipping|company|holder|recipient|card_?holder|user)[_ -]?)?names?"
    r"|(?:(?:billing|shipping|delivery|home|invoice|e-?mail|street)[_ -]?)?address(?:[_ -]?(?:line)?[_ -]?\d)?|street\w{0,8}|city|town"
    r"|zip(?:[_ -]?code)?|post(?:al)?[_ -]?code|phone(?:[_ -]?number)?|telephone|mobile|e-?mail|birth(?:day|[_ -]?date)|dob|iban|vat[_ -]?id|company"
    r"|salutation|customer|recipient|vorname|nachname|stra(?:ss|ß)e|ort|plz)"
    r"""(\\?["']?\]?[ \t]{0,4}(?:=>|=|:|>)[ \t]{0,4})"""
    r"""(\\?"(?:[^"\\\n]|\\[^"]){0,200}\\?"|'[^'\n]{0,200}'|[^\s"'\[{(<][^,;&}\])\n"'<]{0,120})""", re.IGNORECASE)
# What nobody else may know, as dumps, XML, forms and JSON write it; scrubbing knows the usual spellings, logs have more.
_SECRET = re.compile(
    r"((?<![A-Za-z])[\w-]{0,40}?(?:pass(?:wd|word|wort|phrase|code)?|pwd?|pw|secret|token|(?:api|private)[_-]?key|session(?:[_-]?id)?|sess|sid|otp|pin|cvv2?|cvc2?"
    r"|(?:cc_)?cid|csrf|nonce|frontend|[?&](?:code|key|sig|hash))"
    r"""(?:\\?["']|%22)?\]?[ \t]{0,4}(?:=>|=|:|>|%3[aAdD])[ \t]{0,4}(?:[\[{(][ \t]?(?:\\?["']?\w{1,40}\\?["']?[ \t]?:[ \t]?)?)?)"""
    r"""(\\?"[^"\\\n]{0,300}|'[^'\n]{0,300}|%22[^%\s]{0,200}|[^\s"'&<>,;)}\]%*]{1,300})""", re.IGNORECASE)
# Arguments of calls and statements; customers, accounts and telephones in running text.
_ARGUMENTS = re.compile(r"(#\d{1,3} (?:[^\n(]{0,300}\(\d+\)|\[internal function\]): [^\s(]{1,200}\(|\bVALUES\s{0,4}\()[^\n]+", re.IGNORECASE)
_QUOTED_PERSON = re.compile(r"""\b((?:customer|user|kunde|client|buyer|guest) )(["'])[^"'\n]{1,100}\2""", re.IGNORECASE)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_TELEPHONE = re.compile(r"(?<![\w.:-])(?:\(0?\d{2,5}\)|00?\d{1,4})[ /-]\d[\d /-]{4,14}\d(?![\w.:-])")


def signature(event: Event) -> str:
    """`LEVEL:TEMPLATE [module]`: one printable line of at most 160 characters that tells errors of different kinds apart.

    It does not depend on which digits an event has, nor how many at a place. With an exception it is "error:Class: message in Cart.total
    [plugin]", else "error:message [plugin]".
    """
    frame = top_own(event.frames) or Frame("")
    (exception, function, path, source), message = _redacted((event.exception, frame.function, frame.path, event.source), _unwrapped(event.message))
    name, message = _short(exception), masked(message)
    said = f"{name}: {message}" if name and message else name or message
    where = _where(path, function) if name else ""
    module = module_of(path) or _channel(source)
    tail = (f" in {where}" if where else "") + (f" [{plain(module)[:_LONGEST_PART]}]" if module else "")
    return _fitted(f"{event.level}:", _line(said), _line(redact(tail, ips=True) if "@" in tail else tail))


def example(text: str) -> str:
    """An event as a person may see it: one line, scrubbed, without names and addresses of customers, at most 400 characters."""
    text = _ARGUMENTS.sub(r"\1…)", text[:_READ])
    text = _PERSON.sub(r"\1\2[hidden]", _SECRET.sub(r"\1[hidden]", text))
    text = _TELEPHONE.sub("[phone]", _IBAN.sub("[iban]", _QUOTED_PERSON.sub(r"\1[hidden]", text)))
    return scrub(text, limit=LONGEST_EXAMPLE, ips=True)


def _unwrapped(message: str) -> str:
    """What a program behind a web server said, without the server's quotes around it."""
    found = _WRAPPED.search(message) if 'stderr: "' in message else None
    return found[1] if found else message


def _redacted(names: tuple[str, ...], message: str) -> tuple[list[str], str]:
    """Names without what is known to be secret, and the message without that and without what is personal. All at once: each time costs 20 µs."""
    if len(message) > LOOKED_AT:
        message = message[:LOOKED_AT - _HALF_SECRET]
    cut = [name[-_LONGEST_PATH:].replace("\n", " ") for name in names]
    *found, rest = redact("\n".join((*cut, _PERSON.sub(r"\1\2*", _SECRET.sub(r"\1*", message)))), ips=True).split("\n", len(cut))
    if len(found) != len(cut):                                   # what was hidden went over a line's end
        return [""] * len(cut), rest
    return found if any("[hidden]" in name for name in found) else cut, rest


def _short(name: str) -> str:
    """An exception's class without its package; with the class that it stands in: "Product.DoesNotExist"."""
    parts = [part for part in re.split(r"[.$:]+", name.rpartition("\\")[2]) if part]
    owner = [part for part in parts[-2:-1] if part[:1].isupper()]
    return plain(".".join([*owner, *parts[-1:]]))[:_LONGEST_PART]


def _where(path: str, function: str) -> str:
    """`Class.function` where the trace tells the class, else `file.py function`."""
    parts = re.split(r"[.\\]", function)
    file = path.replace("\\", "/").rpartition("/")[2]
    told = ".".join(parts[-2:]) if len(parts) > 1 else f"{file} {function}"
    return plain(told.strip()[:2 * _LONGEST_PART])[:_LONGEST_PART]


def _channel(source: str) -> str:
    return source if re.fullmatch(r"[A-Za-z][\w./@-]{0,60}", source) else ""


def _line(text: str) -> str:
    """Printable, in one line."""
    return visible(re.sub(r"\s+", " ", text)).encode("utf-8", "backslashreplace").decode()


def _fitted(level: str, said: str, tail: str) -> str:
    """The parts within the limit. What had to be cut ends in a hash of the whole, so that different ones stay apart."""
    whole = f"{level}{said.strip()}{tail}"
    if len(whole) <= LONGEST_NAME:
        return whole
    hashed = blake2b(whole.encode(), digest_size=4).hexdigest()
    room = LONGEST_NAME - len(level) - len(tail) - len(hashed) - 1
    return f"{level}{said.strip()[:room]}…{hashed}{tail}"[:LONGEST_NAME]
