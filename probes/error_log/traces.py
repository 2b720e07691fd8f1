"""What a stack trace in a log tells: which exception, what it says, and where it was raised.

Every reader takes the lines of an event and goes through them once. Logs cut traces, wrap them and put their own words before each line; so a
reader takes what it recognises and passes over the rest.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from probes.error_log.event import LONGEST, Frame

_LONGEST_LINE = 1000       # characters; more of a line is not looked at
MOST_FRAMES = 60           # that are kept, nearest to the fault; a recursion has thousands


@dataclass(frozen=True, slots=True)
class Trace:
    """What was raised. `frames` begin with the one that raised it; nothing is scrubbed.

    `exception` is "" where a language reports a fault without one (a PHP warning), or the end of the trace was cut off.
    """

    exception: str
    message: str
    frames: tuple[Frame, ...] = ()


def trace(text: str) -> Trace | None:
    """The stack trace in an event's text, also when it was cut or wrapped; None when there is none.

    Of chained exceptions it is the one that was raised first in Java, .NET and PHP; in Python and Node, whose chains do not say by
    whom the first one was called, the one that was raised last.
    """
    text = text[:LONGEST]
    readers = [read for signs, read in _READERS if any(sign in text for sign in signs)]
    if not readers:
        return None
    lines = [line[:_LONGEST_LINE] for line in _lines(text)]
    return next((found for read in readers if (found := read(lines)) is not None), None)


# What others put around each line or around the whole.
_FPM = re.compile(r'^\[[^\]]{1,40}\] WARNING: \[pool [^\]]{1,80}\] child \d+,? said into std(?:err|out): "(.*)$')
_PIPE = re.compile(r"^ {0,8}[|+](?:-[-+]*)? ?")                  # Python's exception groups


def _lines(text: str) -> Iterable[str]:
    if "\n" not in text and "\\n" in text:                       # written as a JSON string or by a logger of one line
        text = text.replace("\\r", "").replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\").replace("\\/", "/")
    for line in text.split("\n"):
        found = _FPM.match(line) if line.startswith("[") else None
        if found:
            yield found[1].removesuffix('"')
        else:
            yield line.rstrip("\r")


# Python: the outermost frame first, the exception behind the frames.
_PY_FRAME = re.compile(r'^\s*File "([^"]*)", line \d+(?:, in (\S.*))?$')
_PY_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?:: ?(.*))?$")


def _python(lines: list[str]) -> Trace | None:
    found: Trace | None = None
    frames: list[Frame] = []
    inside = False
    for written in lines:
        line = written
        if "Traceback (most recent call last)" in line:
            frames, inside = [], True
            continue
        if inside or 'File "' in line:
            line = _PIPE.sub("", line)
        if frame := _PY_FRAME.match(line):
            frames, inside = (frames if inside else []), True
            frames.append(Frame(frame[1], frame[2] or ""))
        elif inside and line[:1] not in {" ", "\t", ""} and (raised := _PY_RAISED.match(line)):
            found, frames, inside = Trace(raised[1], raised[2] or "", _innermost(frames)), [], False
    if inside and frames and found is None:
        found = Trace("", "", _innermost(frames))
    return found


def _innermost(frames: list[Frame]) -> tuple[Frame, ...]:
    return tuple(frames[:-MOST_FRAMES - 1:-1])


# PHP: where it was raised, then the calls that led there. `#0 FILE(LINE): FUNCTION()` names the function that was called *from* that file.
_PHP_RAISED = re.compile(
    r"(?:Uncaught |\[object\] \()(?:\(?exception\)? )?([A-Za-z_\\][\w\\]*(?:@anonymous)?)(?:\(code: [^)]{0,40}\))?(?::\s?| in (?=/))(.*)$")
# Written by a logger: only what stands below tells that it is the head of a trace.
_PHP_LOGGED = re.compile(
    r"(?:^|[:\]] )((?:[A-Z]\w*\\)+[A-Z]\w*|[A-Z]\w*(?:Exception|Error)|Exception|Error): (.* in (?:/|[A-Za-z]:[/\\])[^:]*:\d+\W*)$")
_PHP_CALL = re.compile(r"^\W{0,3}#\d+ (?:(.+?)\(\d+\)|\[internal function\])?:? ?([\w\\{}:@$>/.-]*)")
_PHP_LINE = re.compile(r"^(.*) in ((?:/|[A-Za-z]:[/\\]|phar:|[\w./-]+\.php)[^:]*?(?::[^:\d][^:]*?)?)(?: on line |:)\d+\W*$")
_PHP_CUT = re.compile(r"^(.*?) in ((?:/|[A-Za-z]:[/\\]|phar:)[^:]*?)(?: on line |:)\d+\b")
_PHP_PLACE = re.compile(r"^(.*?) at (/\S*?|[A-Z]:\\\S*?):\d+\)")
_PHP_FAULT = re.compile(
    r"PHP (?:message: )?(?:PHP )?((?:(?:Recoverable )?[Ff]atal error|Parse error|Warning|Notice|Deprecated|Core \w+|Compile \w+|User \w+)): +(.*)$")


def _php(lines: list[str]) -> Trace | None:
    for number, line in enumerate(lines):
        if raised := _PHP_RAISED.search(line):
            return _php_thrown(raised[1].removesuffix("@anonymous"), raised[2], lines[number + 1:])
    for line, below in pairwise(lines):
        if below.startswith(("Stack trace", "#0 ")) and (raised := _PHP_LOGGED.search(line)):
            return _php_thrown(raised[1], raised[2], lines[lines.index(below):])
    for line in lines:
        if (fault := _PHP_FAULT.search(line)) and (place := _PHP_LINE.match(fault[2]) or _PHP_CUT.match(fault[2])):
            return Trace("", place[1], (Frame(place[2]),))
    return None


def _php_thrown(name: str, first: str, rest: list[str]) -> Trace:
    message, thrown = first, ""
    for text in (first, *rest[:20]):
        if text.startswith(("#", "Stack trace")):
            break
        if place := _PHP_PLACE.match(text) or _PHP_LINE.match(text) or _PHP_CUT.match(text):
            thrown = place[2]
            message = place[1] if text is first else first
            break
    calls = [(call[1] or "", call[2]) for text in _php_stack(rest) if (call := _PHP_CALL.match(text))]
    frames = _php_frames(thrown, calls[:MOST_FRAMES])
    return Trace(name, message, frames)


def _php_stack(lines: list[str]) -> Iterable[str]:
    """The lines of the first stack: a chain has another one behind "Next"."""
    for line in lines:
        if line.startswith(("Next ", "[previous exception]")):
            return
        yield line


# Classes and functions of PHP itself, which have no file: what they raise comes from the function that called them.
_PHP_ITSELF = re.compile(
    r"(?:PDO|mysqli|Date|Reflection|SimpleXML|XML|DOM|Soap|Array(?:Object|Iterator)|Spl|Intl|NumberFormatter|Zip|Phar|Redis|Memcache|Imagick|Collator|Closure"
    r"|Generator|finfo|SQLite3)\w*\.|(?:array|json|preg|mb|str|file|curl|iconv|openssl|gz|ctype|simplexml|mysqli|stream|password|random|base64|hash|date|image|sodium"
    r"|bc|html|http|socket|call_user|number|is|in|spl|class|method|property|get|set|iterator|var|parse|ini|u[ak]?|k|r|a)_\w+$"
    r"|(?:intdiv|(?:un)?serialize|i?m?plode|explode|v?s?printf|count|range|max|min|u[ak]?sort|[ak]?r?sort|str\w+|substr\w*|fopen|fwrite|fread|fclose|mkdir|unlink|rename|copy"
    r"|mail|define|constant|trigger_error|compact|extract|abs|ceil|floor|round|fdiv|date|mktime|strtotime|ucfirst|trim|iterator_\w+|assert|include|require)$")


def _php_frames(thrown: str, calls: list[tuple[str, str]]) -> tuple[Frame, ...]:
    """Each function together with the file that it stands in, which the trace tells one line earlier."""
    if len(calls) > 1 and calls[0][0] == thrown and _PHP_ITSELF.match(_php_function(calls[0][1])):
        calls = calls[1:]
    frames, path = [], thrown
    for caller, function in calls:
        if path:
            frames.append(Frame(path, _php_function(function)))
        path = caller
    if path:
        frames.append(Frame(path))
    return tuple(frames)


def _php_function(name: str) -> str:
    if "{" in name or not name:
        return ""
    return name.partition("@anonymous")[0].replace("->", ".").replace("::", ".")


# Java and .NET: the exception, then the frames, the one that raised it first.
_JAVA_FRAME = re.compile(r"^\s+at (?:[\w.@/-]+/)?([\w.$<>]+)\.([\w$<>]+)\(([^()]*)\)")
_JAVA_RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)+[A-Z][\w$]*|\b[A-Z]\w*(?:Exception|Error|Throwable))(?:: ?(.*))?$")


def _java(lines: list[str]) -> Trace | None:
    """The last "Caused by", whose frames go on with those of what it caused."""
    blocks: list[tuple[str, list[Frame]]] = []
    header, hidden = "", False
    for line in lines:
        if frame := _JAVA_FRAME.match(line):
            if hidden:
                continue
            if header or not blocks:
                blocks.append((header, []))
                header = ""
            if len(blocks[-1][1]) < MOST_FRAMES:
                blocks[-1][1].append(_java_frame(frame))
        elif line.strip().startswith("Suppressed: "):
            hidden = True
        elif line.strip() and not line.strip().startswith("..."):
            header, hidden = line, False
    raised = next((found for top, _ in reversed(blocks) if (found := _JAVA_RAISED.search(top))), None)
    if not blocks or (raised is None and len(blocks[0][1]) < 2):
        return None
    frames = [frame for _, block in reversed(blocks) for frame in block]
    return Trace(raised[1] if raised else "", (raised[2] or "") if raised else "", tuple(frames[:MOST_FRAMES]))


def _java_frame(found: re.Match[str]) -> Frame:
    name = found[1].partition("$$")[0]
    folders = name.split(".")[:-1]
    return Frame("/".join([*folders, f"{name.rpartition('.')[2].partition('$')[0]}.java"]), f"{name.replace('$', '.')}.{found[2]}")


_NET_FRAME = re.compile(r"^\s+at ([\w.`<>+\[\],|]+)\.([\w<>`|]+)(?:\[[^\]]*\])?\([^()]*\)(?: in (.+):line \d+)?\s*$")
_NET_RAISED = re.compile(r"(?:---> )?((?:[A-Za-z_]\w*\.)+[A-Z]\w*)(?: \([^()]*\))?: ?(.*)$")


def _net(lines: list[str]) -> Trace | None:
    frames = [_net_frame(found) for line in lines if (found := _NET_FRAME.match(line))]
    if not frames:
        return None
    raised = None
    for line in lines:
        if _NET_FRAME.match(line):
            break
        raised = _NET_RAISED.search(line) or raised
    if raised is None:
        return None
    return Trace(raised[1], raised[2].partition(" ---> ")[0], tuple(frames[:MOST_FRAMES]))


def _net_frame(found: re.Match[str]) -> Frame:
    name = found[1].partition("`")[0].partition(".<")[0].partition("+<")[0].replace("+", ".")
    inner = re.match(r"<(\w+)>", found[1].rpartition("+" if "+<" in found[1] else ".")[2])        # a state machine of an async method
    method = inner[1] if inner and found[2] == "MoveNext" else found[2]
    return Frame(found[3] or name.replace(".", "/") + ".cs", f"{name}.{method}")


# Node: the exception with its message, which may have several lines, then the frames, the one that raised it first.
_NODE_FRAME = re.compile(r"^\s+at (?:async )?(?:(new )?([^\s()][^()]*?) (?:\[as [^\]]*\] )?\()?((?:file://|node:|/|[A-Za-z]:\\|webpack)[^()]*?):\d+(?::\d+)?\)?")
_NODE_RAISED = re.compile(r"(?:^|\s|: )(?:Uncaught )?((?:[A-Za-z_$][\w$]*\.)?[A-Z][\w$]*)(?: \[[^\]]*\])?(?:: ?(.*))?$")


def _node(lines: list[str]) -> Trace | None:
    frames: list[Frame] = []
    first = -1
    for number, line in enumerate(lines):
        if found := _NODE_FRAME.match(line):
            first = number if first < 0 else first
            frames.append(_node_frame(found))
        elif frames:
            break                                                # behind it stand causes and fields of the exception
    if not frames:
        return None
    above = lines[max(0, first - 30):first]
    raised = next((found for line in reversed(above) if (found := _NODE_RAISED.match(line))), None)
    raised = raised or next((found for line in reversed(above) if (found := _NODE_RAISED.search(line))), None)
    return Trace(raised[1] if raised else "", (raised[2] or "") if raised else "", tuple(frames[:MOST_FRAMES]))


def _node_frame(found: re.Match[str]) -> Frame:
    function = found[2] or ""
    function = "" if "<anonymous>" in function or (function.startswith("Object.") and function.endswith(">")) else function
    return Frame(found[3].removeprefix("file://"), function.removeprefix("Object.").removeprefix("Module."))


# Ruby: the frame that raised it, with the exception behind the message in parentheses, or before it in logs.
_RUBY_FRAME = re.compile(r"^\s*(?:from |\d+: from )?((?:[A-Za-z]:)?[^:\s][^:]*):\d+:in [`'‘“]([^`'’”]*)['’”](?:: (.*))?$")
_RUBY_RAISED = re.compile(r"^(.*?) ?\(([A-Z]\w*(?:::[A-Z]\w*)*)\)$")
_RUBY_LOGGED = re.compile(r"(?:^|[\s:])([A-Z]\w*(?:::[A-Z]\w*)*)(?: \((.*)\):?|: (.*))$")


def _ruby(lines: list[str]) -> Trace | None:
    frames: list[Frame] = []
    name, message, before = "", "", ""
    for line in lines:
        if found := _RUBY_FRAME.match(line):
            frames.append(Frame(found[1], _ruby_function(found[2])))
            if found[3] and not name:
                raised = _RUBY_RAISED.match(found[3])
                name, message = (raised[2], raised[1]) if raised else ("", found[3])
        elif line.strip() and not frames:
            before = line
    if not frames:
        return None
    if not name and (logged := _RUBY_LOGGED.search(before)):
        name, message = logged[1], logged[2] or logged[3] or ""
    return Trace(name, message, tuple(frames[:MOST_FRAMES]))


def _ruby_function(name: str) -> str:
    name = name.rpartition(" in ")[2].removeprefix("Object#")
    return "" if name.startswith("<") else name.replace("::", ".").replace("#", ".")


_READERS: tuple[tuple[tuple[str, ...], Callable[[list[str]], Trace | None]], ...] = (
    (("Traceback (most recent call last)", 'File "', 'File \\"'), _python),
    (("PHP ", "#0 ", "Uncaught ", "[object] ("), _php),
    ((":line ", ") in ", "---> ", "   at System."), _net),
    ((".java:", "(Unknown Source)", "(Native Method)", ".kt:", ".scala:", "\tat ", "\\tat "), _java),
    (("    at ",), _node),
    ((":in `", ":in '"), _ruby),
)
