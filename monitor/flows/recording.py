"""What `playwright codegen --target python-async` has recorded, made a flow: steps, assertions, and nothing secret. Pure."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from probes.checkout.inspection import PASSWORD, PAYS

_CODE = re.compile(r"\bcv[cv]2?\b|\bcsc\b|security code|card code|prüf(?:ziffer|nummer)", re.IGNORECASE)
_CARD = re.compile(r"card.?(?:number|no)|kartennummer|cc-?number|cardnumber", re.IGNORECASE)
_NUMBER = re.compile(r"\d(?:[ -]?\d){12,18}")
_LEADS_ON = ("link", "button", "heading", "menuitem", "tab", "img")       # roles whose click probably opens the next page
_DROPPED = {"close", "launch", "new_context", "new_page", "storage_state"}
_USELESS_KEYS = {"Tab", "CapsLock", "Shift"}
_TODO_CHECK = 'TODO what is seen when it came out: await expect(page.get_by_role("heading", name="...")).to_be_visible()'


class NoRecordingError(ValueError):
    """The text is nothing that can be made a flow; the words say why."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One statement of the recording."""

    text: str
    method: str = ""                     # what is called last: click, fill, goto ...
    on: str = ""                         # what it is called on
    argument: str | None = None          # its first one, where that is a text
    role: str = ""                       # what get_by_role had, and its name
    name: str = ""


@dataclass(slots=True)
class _Step:
    name: str
    lines: list[_Line] = field(default_factory=list)


@dataclass(slots=True)
class _Needs:
    """What the probe's table must have beside the flow."""

    variables: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)


def convert(text: str, file: str = "flow.py") -> str:
    """A flow file out of a recorded script. Raises NoRecordingError."""
    lines, device = _recorded(text)
    if not lines:
        raise NoRecordingError("nothing was recorded: click through the shop before the window is closed")
    origin = next((_origin(line.argument) for line in lines if line.method == "goto" and line.argument), "")
    needs = _Needs()
    steps = _cut([_safe(_relative(line, origin), needs) for line in _tidied(lines)])
    body = "\n\n".join(textwrap.indent(block, "    ") for block in _blocks(steps))
    imports = "import re\n\n" if re.search(r"\bre\.", body) else ""
    head = f"{_head(file, origin, device, needs)}\n\n{imports}from playwright.async_api import expect\n\n\n"
    return f"{head}async def checkout(flow):\n    page = flow.page\n\n{body}\n"


# ---- reading ---------------------------------------------------------------------------------------------------------


def _recorded(text: str) -> tuple[list[_Line], str]:
    """What was done, and the name of the device that was played."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise NoRecordingError(f"this is no Python: {error}") from None
    functions = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    if any(function.name == "checkout" for function in functions):
        raise NoRecordingError("this is a flow already: it has `async def checkout(flow)`")
    if re.search(r"\bsync_playwright", text):
        raise NoRecordingError("this is for Playwright's synchronous interface: record it with --target python-async")
    run = next((function for function in functions if "new_page" in ast.unparse(function)), None)
    if run is None:
        raise NoRecordingError("this is nothing that `playwright codegen --target python-async` writes: no function opens a page")
    device = re.search(r"devices\[[\"']([^\"']+)[\"']\]", text)
    return [line for line in (_line(text, node) for node in run.body) if line], device[1] if device else ""


def _line(text: str, node: ast.stmt) -> _Line | None:
    segment = textwrap.dedent(" " * node.col_offset + (ast.get_source_segment(text, node) or ""))
    call = node.value if isinstance(node, ast.Expr | ast.Assign) else None
    call = call.value if isinstance(call, ast.Await) else call
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return _Line(segment)
    if call.func.attr in _DROPPED:
        return None
    first = call.args[0] if call.args else None
    argument = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return _Line(segment, call.func.attr, ast.get_source_segment(text, call.func.value) or "", argument, *_role(call.func.value))


def _role(on: ast.expr) -> tuple[str, str]:
    """Role and name of what is acted on, as far as they are told."""
    for node in ast.walk(on):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("get_by_"):
            texts = [arg.value for arg in [*node.args, *(word.value for word in node.keywords)] if isinstance(arg, ast.Constant)
                     and isinstance(arg.value, str)]
            by_role = node.func.attr == "get_by_role"
            return (texts[0], texts[1] if len(texts) > 1 else "") if by_role and texts else ("", next(iter(texts), ""))
    return "", ""


def _origin(address: str | None) -> str:
    parts = urlsplit(address or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


# ---- making it a flow ------------------------------------------------------------------------------------------------


def _tidied(lines: Sequence[_Line]) -> list[_Line]:
    """Without what a person does by the way: the click into a field that is filled in then, keys that only move on, a field filled twice."""
    kept: list[_Line] = []
    for line in reversed(lines):
        moves = line.method == "press" and line.argument in _USELESS_KEYS
        again = bool(kept) and (line.on, "fill") == (kept[-1].on, kept[-1].method) and line.method in {"click", "fill", "press", "dblclick"}
        if not moves and not again:
            kept.append(line)
    return kept[::-1]


def _relative(line: _Line, origin: str) -> _Line:
    """Addresses of the shop as paths, so that the flow also runs against a staging shop."""
    if line.method == "goto" and line.argument and _origin(line.argument) == origin:
        path = line.argument.removeprefix(origin) or "/"
        return replace(line, text=f"await {line.on}.goto({_quoted(path)})", argument=path)
    return line


def _safe(line: _Line, needs: _Needs) -> _Line:
    """What was typed, when it is secret or somebody's, comes from the probe's settings."""
    if line.method not in {"fill", "type", "press_sequentially"} or not line.argument:
        return line
    for pattern, name in ((_CODE, "cvc"), (PASSWORD, "password"), (_CARD, "card")):
        if pattern.search(line.on):
            return _out_of(line, f'flow.secret("{name}")', name, needs.secrets)
    if _NUMBER.fullmatch(line.argument.strip()):
        return _out_of(line, 'flow.secret("card")', "card", needs.secrets)
    if "@" in line.argument:
        return _out_of(line, 'flow.vars["email"]', "email", needs.variables)
    return line


def _out_of(line: _Line, source: str, name: str, needed: set[str]) -> _Line:
    needed.add(name)
    return replace(line, text=f"await {line.on}.{line.method}({source})", argument=source)


def _cut(lines: Sequence[_Line]) -> list[_Step]:
    """A new step begins with every click that probably opens a page, and with payment."""
    pays = next((number for number, line in enumerate(lines) if line.method == "click" and line.role == "button" and PAYS.search(line.name)), None)
    card = next((number for number, line in enumerate(lines) if line.argument in {'flow.secret("card")', 'flow.secret("cvc")'}), None)
    if pays is None and card is not None:
        pays = next((number for number, line in enumerate(lines) if number > card and line.method == "click" and line.role == "button"), None)
    starts = min((number for number in (pays, card) if number is not None), default=None)
    steps: list[_Step] = []
    held: list[_Line] = []               # how a dialog is answered belongs to the click that opens it
    for number, line in enumerate(lines):
        if line.method == "once" and steps and number + 1 < len(lines):
            held.append(line)
            continue
        if number == starts:
            steps.append(_Step("payment"))
        elif not steps or (number != pays and _opens(line)):
            steps.append(_Step(_named(line, {step.name for step in steps} | {"payment"})))
        steps[-1].lines += [*held, replace(line, text=f"await flow.submit({line.on})", method="submit") if number == pays else line]
        held.clear()
    return steps


def _opens(line: _Line) -> bool:
    return line.method == "goto" or (line.method == "click" and line.role in _LEADS_ON)


def _named(line: _Line, taken: set[str]) -> str:
    path = urlsplit(line.argument or "").path if line.method == "goto" else ""
    words = " ".join(re.findall(r"\w+", line.name or path.rpartition("/")[2] or ("home" if line.method == "goto" else line.method or "start")))
    name = wanted = words.lower()[:40].strip() or "step"
    number = 2
    while name in taken:
        name, number = f"{wanted} {number}", number + 1
    return name


def _blocks(steps: Sequence[_Step]) -> Iterator[str]:
    """The text of each step, with what it can be seen by that it came out."""
    for number, step in enumerate(steps):
        lines = [line.text for line in step.lines]
        if not any("expect(" in text for text in lines[-1:]):
            lines += _assertion(steps[number + 1] if number + 1 < len(steps) else None)
        if step.lines[-1].method == "submit":
            lines.append('# TODO the order\'s number, so that it is cancelled: flow.order(await page.locator("...").inner_text())')
        yield f'async with flow.step("{step.name}"):\n' + textwrap.indent("\n".join(lines), "    ")


def _assertion(following: _Step | None) -> list[str]:
    first = next((line for line in following.lines if line.method != "once"), None) if following else None
    if first and first.on.startswith("page.") and first.method not in {"goto", ""}:
        return [f"await expect({first.on}).to_be_visible()        # TODO better: what only this page has"]
    return [f"# {_TODO_CHECK}"]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _head(file: str, origin: str, device: str, needs: _Needs) -> str:
    secrets = ", ".join(f'{name} = {{ env = "TEST_{name.upper()}" }}' for name in sorted(needs.secrets))
    table = ["[[probe]]", 'name = "checkout"', 'kind = "checkout"', f'url = "{origin}"' if origin else "", f'flow = "{file}"',
             f'devices = ["{device}"]' if device else "", 'variables = { email = "till+{run}@shop.example" }' if needs.variables else "",
             f"secrets = {{ {secrets} }}" if secrets else ""]
    told = textwrap.indent("\n".join(line for line in table if line), "    ")
    return (f'"""Recorded in a browser. Go through the TODOs, then run `tillwatch flow check {file}`. Its table in config.toml:\n\n{told}\n\n'
            'With stop_before = "payment", the default, the step of this name is not entered.\n"""')
