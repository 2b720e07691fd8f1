"""What a step of a declared flow points at: one string, such as `button: Add to basket`, and Playwright's locator for it. Parsing is pure."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import re2

from probes.patterns import compiled

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

ROLES = frozenset((
    "alert", "alertdialog", "application", "article", "banner", "blockquote", "button", "caption", "cell", "checkbox", "code", "columnheader",
    "combobox", "complementary", "contentinfo", "definition", "deletion", "dialog", "directory", "document", "emphasis", "feed", "figure", "form",
    "generic", "grid", "gridcell", "group", "heading", "img", "insertion", "link", "list", "listbox", "listitem", "log", "main", "marquee", "math",
    "menu", "menubar", "menuitem", "menuitemcheckbox", "menuitemradio", "meter", "navigation", "none", "note", "option", "paragraph", "presentation",
    "progressbar", "radio", "radiogroup", "region", "row", "rowgroup", "rowheader", "scrollbar", "search", "searchbox", "separator", "slider",
    "spinbutton", "status", "strong", "subscript", "superscript", "switch", "tab", "table", "tablist", "tabpanel", "term", "textbox", "time", "timer",
    "toolbar", "tooltip", "tree", "treegrid", "treeitem",
))
KINDS = ("label", "text", "placeholder", "testid", "alt", "title", "css", "frame")
_USUAL = (*KINDS, "button", "link", "heading", "textbox", "checkbox", "radio", "combobox")      # what a typing error is probably of
LONGEST = 500              # characters of a target
_MOST_NTH = 1000
_HOW = 'say first what it is, such as "button: Add to basket", "label: E-mail", "text: Thank you" or "css: #add"'

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False             # a bad pattern is told to its author, not to stderr
_PREFIX = re.compile(r"\s*([A-Za-z][\w-]*)[ \t]*:\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:[ \t]+#(\d{1,4}))?\s*(>>|$)')
_PATTERN = re.compile(r"/((?:[^/\\]|\\.)+)/(i?)(?:[ \t]+#(\d{1,4}))?\s*(>>|$)")
_STRINGS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|>>")         # of CSS: a >> inside them does not count
_NTH = re.compile(r"(?:^|\s)#(\d{1,4})$")
_UNSHARED = re.compile(r"\(\?(?!:)|\\[AZzpP]")           # what JavaScript's patterns do not know, or write otherwise
_REPEATS = re.compile(r"[+*]|\{\d+,\}")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a target: `kind` is one of KINDS or a role. `nth` counts from 1; 0 takes whatever there is."""

    kind: str
    text: str
    match: Literal["part", "exact", "pattern", "pattern_i"] = "part"
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What a string points at: the last part, inside the one before it, and so on."""

    source: str
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return self.source

    def filled(self, fill: Callable[[str], str]) -> "Target":
        """With the variables in its texts replaced; what a pattern gets is taken literally."""
        def one(part: Part) -> Part:
            pattern = part.match.startswith("pattern")
            return replace(part, text=_outside(part.text, fill) if pattern else fill(part.text))
        return replace(self, parts=tuple(map(one, self.parts)))


def _outside(pattern: str, fill: Callable[[str], str]) -> str:
    return re.sub(r"\{[a-z_]\w*\}", lambda name: re.escape(fill(name[0])), pattern)


def parse(text: str) -> Target:
    """The target that a string means. Raises ValueError, which says what to write instead."""
    if len(text) > LONGEST:
        raise ValueError(f"a target has at most {LONGEST} characters")
    parts: list[Part] = []
    rest = text.strip()
    while rest or not parts:
        part, rest, goes_on = _part(rest, text.strip())
        parts.append(part)
        if goes_on and not rest:
            raise ValueError(f'"{text.strip()}" ends with >>: say what is meant inside of it')
    if parts[-1].kind == "frame":
        raise ValueError(f'"{text.strip()}" is a whole frame: say what is meant inside of it, such as "frame: Card >> label: Card number"')
    return Target(text.strip(), tuple(parts))


def _part(text: str, whole: str) -> tuple[Part, str, bool]:
    """The first part, what follows its >>, and whether there is a >>."""
    found = _PREFIX.match(text)
    if not found:
        near = f'; did you mean "css: {text}"?' if text[:1] in {"#", ".", "["} else ""
        raise ValueError(f'"{whole}" is no target: {_HOW}{near}')
    kind, value = found[1].lower(), text[found.end():]
    if kind not in ROLES and kind not in KINDS:
        known = difflib.get_close_matches(kind, _USUAL) or difflib.get_close_matches(kind, sorted(ROLES))
        raise ValueError(f'"{found[1]}:" is no kind of target' + (f'; did you mean "{known[0]}:"?' if known else f": {_HOW}"))
    if kind == "css":
        return _plain(kind, value, _css_end(value))
    if quoted := _QUOTED.match(value):
        literal = re.sub(r"\\(.)", r"\1", quoted[1])
        return _checked(Part(kind, literal, "exact", _nth(quoted[2]))), value[quoted.end():], bool(quoted[3])
    if kind != "frame" and (pattern := _PATTERN.match(value)):
        part = Part(kind, pattern[1], "pattern_i" if pattern[2] else "pattern", _nth(pattern[3]))
        return _checked(part), value[pattern.end():], bool(pattern[4])
    if kind == "frame" and value.startswith("css:"):
        return _plain(kind, value, _css_end(value))
    end = value.find(">>")
    return _plain(kind, value, len(value) if end < 0 else end)


def _css_end(value: str) -> int:
    """Where the CSS selector at the beginning ends."""
    return next((found.start() for found in _STRINGS.finditer(value) if found[0] == ">>"), len(value))


def _plain(kind: str, value: str, end: int) -> tuple[Part, str, bool]:
    text, nth = value[:end].strip(), 0
    if found := _NTH.search(text):
        text, nth = text[:found.start()].rstrip(), _nth(found[1])
    return _checked(Part(kind, text, "part", nth)), value[end + 2:], end < len(value)


def _nth(digits: str | None) -> int:
    number = int(digits) if digits else 0
    if digits and not 1 <= number <= _MOST_NTH:
        raise ValueError(f"#{digits}: the first one is #1, and there are not more than {_MOST_NTH}")
    return number


def _checked(part: Part) -> Part:
    if not part.text and part.kind not in ROLES:
        raise ValueError(f'"{part.kind}:" needs something behind it')
    if part.match.startswith("pattern"):
        check_pattern(part.text)
    return part


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that cannot be used in the browser as it can here, or that could take for ever there."""
    compiled(re.sub(r"\{[a-z_]\w*\}", "x", pattern), _OPTIONS)
    if found := _UNSHARED.search(pattern):
        raise ValueError(f'the pattern "{pattern}" cannot be used: browsers do not know {found[0]}')
    if _repeats_repeated(pattern):
        raise ValueError(f'the pattern "{pattern}" cannot be used: what is repeated without end repeats without end inside, which can take for ever')
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f'the pattern "{pattern}" cannot be used: {error.msg}') from None


def _repeats_repeated(pattern: str) -> bool:
    """Whether a group that holds an endless repetition is itself repeated without end, as in (a+)+."""
    plain = re.sub(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]", "x", pattern)
    within, held = [False], False            # of each open group: has it an endless repetition?
    at = 0
    while at < len(plain):
        repeat = _REPEATS.match(plain, at)
        if plain[at] == "(":
            within.append(False)
        elif plain[at] == ")" and len(within) > 1:
            held = within.pop()
            within[-1] = within[-1] or held
            repeat = _REPEATS.match(plain, at + 1)
            if held and repeat:
                return True
        elif repeat:
            within[-1] = True
        at += 1
    return False


def locate(page: "Page", target: str | Target) -> "Locator":
    """Playwright's locator for a target on the page. Raises ValueError when it is none."""
    scope: Any = page
    for part in (parse(target) if isinstance(target, str) else target).parts:
        scope = _step(scope, part)
    found: Locator = scope
    return found


def _step(scope: Any, part: Part) -> Any:
    """One part further inside a page, a locator or a frame."""
    found = _found(scope, part)
    return found.nth(part.nth - 1) if part.nth else found


def _found(scope: Any, part: Part) -> Any:
    if part.kind == "frame":
        return scope.frame_locator(_frame(part))
    if part.kind == "css":
        return scope.locator(f"css={part.text}")
    exact = part.match == "exact"
    text = re.compile(part.text, re.IGNORECASE if part.match == "pattern_i" else 0) if part.match.startswith("pattern") else part.text
    if part.kind in ROLES:
        return scope.get_by_role(part.kind, name=text, exact=exact) if part.text else scope.get_by_role(part.kind)
    if part.kind == "testid":
        return scope.get_by_test_id(text)
    by = {"label": scope.get_by_label, "text": scope.get_by_text, "placeholder": scope.get_by_placeholder, "alt": scope.get_by_alt_text,
          "title": scope.get_by_title}
    return by[part.kind](text, exact=exact)


def _frame(part: Part) -> str:
    """CSS for a frame by its title or name, or by CSS itself."""
    if part.text.startswith("css:") and part.match == "part":
        return f"css={part.text.removeprefix('css:').strip()}"
    text = '"' + re.sub(r'["\\\n]', lambda sign: f"\\{ord(sign[0]):x} ", part.text) + '"'
    titled = f"[title={text}]" if part.match == "exact" else f"[title*={text} i]"
    return f"css=:is(iframe, frame):is({titled}, [name={text}])"
