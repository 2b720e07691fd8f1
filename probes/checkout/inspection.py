"""What can be seen to be wrong with a flow without running it: by its syntax tree. Pure."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from probes.checkout.cards import refused_in

LARGEST = 1_000_000        # characters of a flow
PAYS = re.compile(         # what a button says that places an order; no "buy now", which most shops show beside a product
    r"\b(?:pay (?:now|\W?\d)|pay$|place (?:your |my )?order|(?:complete|confirm|submit) (?:your |my )?(?:order|purchase|payment)"
    r"|zahlungspflichtig|jetzt (?:kaufen|bezahlen)|(?:bestellung|order) (?:abschicken|abschließen))", re.IGNORECASE)
PASSWORD = re.compile(r"passw(?:or[dt])?|passphrase|kennwort|\bpwd\b", re.IGNORECASE)

_ACTS = frozenset({"click", "dblclick", "tap", "fill", "type", "press", "press_sequentially", "check", "uncheck", "set_checked", "select_option",
                   "goto", "reload", "go_back", "go_forward", "drag_to", "set_input_files", "dispatch_event", "submit"})
_WAITS = frozenset({"wait_for_url", "wait_for_selector", "wait_for", "wait_for_function", "wait_for_event"})
_TYPES = frozenset({"fill", "type", "press_sequentially"})
_READS = frozenset({"inner_text", "text_content", "input_value", "get_attribute", "evaluate", "is_visible", "is_enabled", "title", "content", "count",
                    "all", "all_inner_texts", "hover", "focus", "clear", "scroll_into_view_if_needed", "screenshot", "wait_for_timeout",
                    "wait_for_load_state", "pause"})
_CLAIM = re.compile(r"(?:not_)?to_(?:be|have|contain|match)_")
_ANSWERED = re.compile(r"expect_(?:navigation|response|request|request_finished|popup|event|download)")
_OF_PLAYWRIGHT = re.compile(r"\b(?:page\d*|flow|locator|get_by_\w+|expect|frame|popup)\b")
_BLOCKING = {"time.sleep": "await asyncio.sleep(...), or better an assertion", "urllib.request.urlopen": "flow.page.request", "input": "flow.vars"}
_BLOCKING_MODULES = {"requests": "flow.page.request", "subprocess": "asyncio.create_subprocess_exec", "httpx": "flow.page.request"}

Level = Literal["error", "warning", "note"]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """One thing about a flow. With an error it cannot or will not run; a note is only to be known. `path` is where in declared steps."""

    line: int
    level: Level
    text: str
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    name: str | None                     # None: not written out
    call: ast.Call
    block: ast.With | ast.AsyncWith | None
    submits: bool

    @property
    def line(self) -> int:
        return self.call.lineno


def inspect(source: str, stop_before: str = "payment") -> list[Remark]:
    """All remarks about a flow in Python that is to stop before that step, in the order of the file."""
    if len(source) > LARGEST:
        return [Remark(0, "error", f"it is larger than {LARGEST:,} characters: no flow is")]
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [Remark(error.lineno or 0, "error", f"this is no Python: {error.msg}")]
    except (ValueError, RecursionError) as error:
        return [Remark(0, "error", f"this is no Python: {error}")]
    if recorded := _recorded(tree):
        return [recorded]
    return sorted({*_Inspection(tree, stop_before).remarks(), *_cards(source)})


def step_names(source: str) -> list[str] | None:
    """The names of the steps that a flow enters, in their order; None when one is not written out, or it is no Python.

    Those of `cleanup` do not count, nor those without `async with`: they hold nothing back.
    """
    try:
        steps = _steps(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return None
    if any(step.name is None for step in steps):
        return None
    return [step.name for step in steps if step.name and isinstance(step.block, ast.AsyncWith)]


def uses(source: str) -> list[tuple[int, bool, str]]:
    """The variables and secrets that a flow in Python names: line, whether it is a secret, name. Not those that it sets itself."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found, stored = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "vars" and (name := _text(node.slice)):
            found.add((node.lineno, False, name))
            stored |= {name} if isinstance(node.ctx, ast.Store) else set()
        elif isinstance(node, ast.Call) and _attribute(node) == "secret" and node.args and (name := _text(node.args[0])):
            found.add((node.lineno, True, name))
    return sorted(use for use in found if use[1] or use[2] not in stored)


def _steps(tree: ast.Module) -> list[_Step]:
    blocks = {id(item.context_expr): node for node in ast.walk(tree) if isinstance(node, ast.With | ast.AsyncWith) for item in node.items}
    skipped = {id(node) for function in tree.body if isinstance(function, Function) and function.name == "cleanup" for node in ast.walk(function)}
    found = []
    for call in _calls(tree):
        if _attribute(call) == "step" and id(call) not in skipped and (call.args or call.keywords):
            name = next(iter(call.args), None) or next((word.value for word in call.keywords if word.arg == "name"), None)
            submits = any(word.arg == "submits" and not (isinstance(word.value, ast.Constant) and not word.value.value) for word in call.keywords)
            found.append(_Step(_text(name), call, blocks.get(id(call)), submits))
    return sorted(found, key=lambda step: (step.call.lineno, step.call.col_offset))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))


def _attribute(call: ast.Call) -> str:
    """The method that is called; "" when it is none."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _cards(source: str) -> Iterator[Remark]:
    for number, line in enumerate(source.splitlines(), 1):
        for card in refused_in(line):
            yield Remark(number, "error", f'{card} is no known test card: a probe never uses a real one; write flow.secret("card")')


def _recorded(tree: ast.Module) -> Remark | None:
    """What `playwright codegen` writes is no flow yet."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("playwright")
             for alias in node.names}
    if any(isinstance(node, Function) and node.name == "checkout" for node in tree.body) or not names & {"async_playwright", "sync_playwright"}:
        return None
    how = "`tillwatch flow record --from FILE -o flow.py` makes a flow of it"
    if "sync_playwright" in names:
        how = "record it with --target python-async, then " + how
    return Remark(1, "error", f"this is a script as `playwright codegen` writes it, and no flow yet: {how}")


class _Inspection:
    """Looks at one flow that is Python."""

    def __init__(self, tree: ast.Module, stop_before: str) -> None:
        self.tree, self.stop_before = tree, stop_before
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, Function)}
        self.steps = _steps(tree)
        self.parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def remarks(self) -> Iterator[Remark]:
        yield from self._entrance()
        yield from self._of_steps()
        yield from self._outside()
        yield from remarks_on_end([(step.name, step.line, ()) for step in self.steps], self.stop_before, self._asks())
        yield from self._too_early()
        for call in _calls(self.tree):
            yield from self._of_call(call)
        yield from self._passwords()

    def _entrance(self) -> Iterator[Remark]:
        found = next((node for node in self.tree.body if isinstance(node, Function) and node.name == "checkout"), None)
        if found is None:
            yield Remark(1, "error", "there is no `async def checkout(flow)`: that is what is run")
        elif not isinstance(found, ast.AsyncFunctionDef):
            yield Remark(found.lineno, "error", "write `async def checkout(flow)`: without async nothing in it can be awaited")
        elif len(found.args.posonlyargs + found.args.args) != 1:
            yield Remark(found.lineno, "error", "write `async def checkout(flow)`: it is called with the flow and nothing else")
        if found and not self.steps:
            yield Remark(found.lineno, "error", 'there is no step: write `async with flow.step("home"):` around what belongs together')

    def _of_steps(self) -> Iterator[Remark]:
        often = Counter(step.name for step in self.steps)
        for step in self.steps:
            if step.name is None:
                yield Remark(step.line, "warning", "write the step's name out: else nobody can see whether the flow stops where it is to")
            elif often[step.name] > 1:
                yield Remark(step.line, "error", f'there are {often[step.name]} steps "{step.name}": each has a name of its own')
            if not isinstance(step.block, ast.AsyncWith):
                yield Remark(step.line, "error", f'write `async with flow.step("{step.name or "..."}"):`')
            elif self._last(step.block.body, frozenset()) in {"act", ""}:
                yield Remark(step.line, "warning", closing(step.name or "..."))

    def _outside(self) -> Iterator[Remark]:
        """What is done in `checkout` outside of every step."""
        within = {id(node) for step in self.steps if step.block for node in ast.walk(step.block)}
        for call in _calls(self.functions.get("checkout", ast.Module([], []))):
            if id(call) not in within and _attribute(call) in _ACTS and _of_playwright(call) and not self._in_callback(call):
                yield Remark(call.lineno, "warning", f"{_attribute(call)} stands outside of every step: it is not timed, its failure is nobody's")

    def _in_callback(self, node: ast.AST) -> bool:
        """Whether it stands in a function inside of `checkout`."""
        while (parent := self.parents.get(id(node))) is not None:
            if isinstance(parent, ast.Lambda | Function):
                return getattr(parent, "name", "") != "checkout"
            node = parent
        return False

    def _last(self, body: Sequence[ast.stmt], seen: frozenset[str]) -> str:
        """What a block ends with: "act", "check", "unknown", or "" when it does nothing."""
        events: list[tuple[int, int, str]] = []
        for node in (inner for statement in body for inner in ast.walk(statement)):
            if kind := self._kind(node, seen):
                at: Any = node
                events.append((at.end_lineno, at.end_col_offset, kind))
        return max(events, default=(0, 0, ""))[2]

    def _kind(self, node: ast.AST, seen: frozenset[str]) -> str:
        if isinstance(node, ast.Assert):
            return "check"
        if isinstance(node, ast.AsyncWith | ast.With):
            return "check" if any(_ANSWERED.fullmatch(_attribute(call)) for item in node.items for call in _calls(item)) else ""
        if not isinstance(node, ast.Call):
            return ""
        name = _attribute(node)
        if name in _WAITS or _CLAIM.match(name):
            return "check"
        if name in _ACTS and _of_playwright(node):
            return "act"
        if isinstance(node.func, ast.Name) and node.func.id in self.functions and node.func.id not in seen:
            return self._last(self.functions[node.func.id].body, seen | {node.func.id})
        awaited = isinstance(self.parents.get(id(node)), ast.Await) and not ast.unparse(node.func).startswith("asyncio.")
        return "unknown" if awaited and not _of_playwright(node) else ""

    def _asks(self) -> bool:
        return any(step.submits or step.name == "payment" for step in self.steps) or any(_attribute(call) == "submit" for call in _calls(self.tree))

    def _too_early(self) -> Iterator[Remark]:
        """Clicks before the last step that look as if they placed the order."""
        names = [step.name for step in self.steps]
        if self.stop_before not in names:
            return
        for step in self.steps[:names.index(self.stop_before)]:
            for call in _calls(step.block) if step.block else ():
                if _attribute(call) == "click" and (said := _button(call)) and PAYS.search(said):
                    yield Remark(call.lineno, "warning", too_early(said, step.name or "...", self.stop_before))

    def _of_call(self, call: ast.Call) -> Iterator[Remark]:
        name, written = _attribute(call), ast.unparse(call.func)
        if self._forgotten(call, name):
            yield Remark(call.lineno, "error", f"{name} is not awaited, so it is never done: write `await` before it")
        if instead := self._blocking(call.func):
            yield Remark(call.lineno, "warning", f"{written} stands still with the whole browser: use {instead}")
        if name == "pause" and _of_playwright(call):
            yield Remark(call.lineno, "error", "pause waits for a person who is not there")
        if name == "wait_for_timeout" or written == "asyncio.sleep":
            yield Remark(call.lineno, "warning", f"{name} always waits so long, and that is timed too: wait for what should come, with expect(...)")
        if name == "route" and _of_playwright(call):
            yield Remark(call.lineno, "note", "route switches the browser's cache off: the shop is measured slower than it is")
        for word in call.keywords:
            if word.arg == "timeout" and isinstance(word.value, ast.Constant) and word.value.value == 0:
                yield Remark(call.lineno, "warning", "timeout=0 waits for ever: leave it out")

    def _forgotten(self, call: ast.Call, name: str) -> bool:
        known = name in _ACTS | _WAITS | _READS or _CLAIM.match(name)
        return bool(known) and _of_playwright(call) and isinstance(
            self.parents.get(id(call)), ast.Expr | ast.Assign | ast.Assert | ast.Compare | ast.FormattedValue | ast.BinOp)

    def _blocking(self, function: ast.expr) -> str:
        written = ast.unparse(function)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == written for alias in node.names):
                written = f"{node.module}.{next(alias.name for alias in node.names if (alias.asname or alias.name) == written)}"
        return _BLOCKING.get(written) or _BLOCKING_MODULES.get(written.partition(".")[0] if "." in written else "", "")

    def _passwords(self) -> Iterator[Remark]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and _text(node.value) and any(PASSWORD.search(ast.unparse(target)) for target in node.targets):
                yield Remark(node.lineno, "warning", password())
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TYPES and node.args
                    and _text(node.args[-1]) and PASSWORD.search(ast.unparse(node.func.value) + " ".join(map(ast.unparse, node.args[:-1])))):
                yield Remark(node.lineno, "warning", password())


def _of_playwright(call: ast.Call) -> bool:
    """Whether it is probably a method of Playwright's, and no string's of this name."""
    return isinstance(call.func, ast.Attribute) and bool(_OF_PLAYWRIGHT.search(ast.unparse(call.func.value)))


def _button(call: ast.Call) -> str:
    """What the button says that is clicked; "" when it is no button by role."""
    for inner in _calls(call):
        if _attribute(inner) == "get_by_role" and inner.args and _text(inner.args[0]) == "button":
            return next((_text(word.value) or ast.unparse(word.value) for word in inner.keywords if word.arg == "name"), "")
    return ""


# ---- words that declared steps share ---------------------------------------------------------------------------------


def closing(step: str) -> str:
    return (f'the step "{step}" does not end with an assertion on what it leads to: a click does not wait, so its time and its failure fall into '
            "the next step")


def too_early(button: str, step: str, stop_before: str) -> str:
    return f'"{button}" looks as if it placed the order, in the step "{step}", before "{stop_before}" where the flow stops'


def password() -> str:
    return 'a password stands in the flow: put it into the probe\'s secrets, and write flow.secret("password") or {secret.password}'


def remarks_on_end(steps: Sequence[tuple[str | None, int, tuple[str | int, ...]]], stop_before: str, asks: bool) -> Iterator[Remark]:
    """How far the steps, each with its name and place, go."""
    names = [name for name, _, _ in steps]
    _, line, path = steps[-1] if steps else ("", 0, ())
    if stop_before and steps and stop_before not in names:
        known = ", ".join(f'"{name}"' for name in names if name)
        yield Remark(line, "error", f'stop_before = "{stop_before}" is no step, so the flow would not stop there; its steps: {known}', path)
    if not asks and steps:
        yield Remark(line, "note" if stop_before in names else "warning", "nothing in the flow says where it places the order: write "
                     "flow.submit(button), or submits=True in the step, so that it happens once a run and is counted", path)
    if stop_before in names[:-1]:
        never = ", ".join(f'"{name}"' for name in names[names.index(stop_before):] if name)
        _, line, path = steps[names.index(stop_before)]
        yield Remark(line, "note", f'the flow stops before "{stop_before}": {never} only run with stop_before = ""', path)
