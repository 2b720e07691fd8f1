"""The house stands as docs/design.md says: imports go down, pure rooms are pure, files and functions are short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top down. A room is a module, or a package whose files may import each other. Rooms of one floor do not know each other.
FLOORS = (
    ("monitor.__main__",),
    ("monitor.cli",),
    ("monitor.backtest", "monitor.demo", "monitor.operate", "monitor.logscan", "monitor.flows", "monitor.by_hand", "monitor.browser_unit"),
    ("monitor.command",),
    ("monitor.app", "monitor.once", "monitor.drill", "monitor.last_words", "monitor.gate", "monitor.terminal", "monitor.observation",
     "monitor.doctor"),
    ("monitor.targets", "monitor.reload", "monitor.wellbeing", "monitor.equipment"),
    ("monitor.config", "monitor.client"),
    ("monitor.config_warnings",),
    ("monitor.witnesses",),
    ("monitor.settings",),
    ("monitor.scheduler", "monitor.intake", "monitor.watch", "monitor.web", "monitor.life", "monitor.chores", "monitor.selfwatch"),
    ("monitor.under_watch",),
    ("monitor.casebook", "monitor.silences", "monitor.before", "monitor.report", "monitor.alerts.dispatch", "monitor.heartbeat", "monitor.uplink"),
    ("monitor.alerts.lane",),
    ("monitor.alerts.table", "monitor.alerts.outbox"),
    ("monitor.alerts.alertmanager", "monitor.alerts.pagerduty", "monitor.alerts.webhook", "monitor.alerts.email", "monitor.alerts.ntfy",
     "monitor.alerts.slack", "monitor.alerts.command"),
    ("monitor.alerts.post", "monitor.alerts.document", "monitor.alerts.budget"),
    ("monitor.alerts.delivery",),
    ("monitor.store",),
    ("monitor.exporter",),
    ("monitor.alerts.page",),
    ("monitor.alerts.words",),
    ("monitor.notices",),
    ("monitor.incidents",),
    ("monitor.updates",),
    ("monitor.judge",),
    ("monitor.jobs",),
    ("monitor.health",),
    ("monitor.clock", "monitor.logs", "monitor.systemd", "monitor.toml_lines", "monitor.config_words", "monitor.json_schema", "monitor.signal_words",
     "monitor.tls_files", "monitor.parts"),
    ("probes.table",),
    ("probes.checkout",),
    ("probes.http", "probes.error_log"),
    ("probes.http_expect", "probes.http_pages"),
    ("probes.http_exchange",),
    ("probes.faults",),
    ("probes.clients",),
    ("probes.connector", "probes.certs"),
    ("probes.reasons",),
    ("probes.sample",),
    ("probes.aside", "probes.patterns", "probes.artifacts", "probes.child"),
    ("probes.fields",),
    ("probes.scrub",),
)
EMPTY = {"monitor", "probes", "monitor.alerts"}             # packages that only hold others: nothing is imported from them
LATE = {"monitor.cli", "monitor.command", "monitor.operate", "monitor.flows.verbs"}   # imports own modules late, so that a verb starts fast

PURE = ("monitor.health", "monitor.jobs", "monitor.parts", "monitor.notices", "monitor.judge", "monitor.updates", "monitor.incidents",
        "monitor.alerts.page", "monitor.alerts.words",
        "monitor.alerts.budget",
        "probes.sample", "probes.fields", "probes.scrub")
IMPURE = ("asyncio", "aiohttp", "sqlite3", "playwright", "structlog", "prometheus_client")

# Where an exception of any kind may be caught and not raised again: (file, function).
DOORS = {
    ("monitor/scheduler.py", "_guarded"): "around a probe run",
    ("monitor/alerts/dispatch.py", "attempt"): "around a delivery",
    ("monitor/alerts/lane.py", "_message"): "around the words of a page",
    ("monitor/store/transaction.py", "transaction"): "the writer thread: handed to whoever waits for the job",
    ("monitor/demo/pages.py", "apologise"): "the bundled shop answers 500, as shops do; no part of the daemon",
    ("monitor/reload.py", "_tried"): "around reading another configuration, before anything has changed",
    ("probes/checkout/script.py", "_run"): "around the flow author's file, in a process of its own",
    ("probes/checkout/engine.py", "_raised"): "around the flow author's functions, in a process of its own",
    ("probes/aside.py", "aside"): "at the end of a thread: handed to whoever waits for it",
    ("probes/aside.py", "run"): "at the end of a thread: handed to whoever waits for it",
    ("monitor/cli.py", "main"): "the end of the command line: an exit code of its own",
}
LONGEST_FILE, LONGEST_FUNCTION, MOST_FUNCTIONS = 400, 60, 25
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for path in sorted([*ROOT.glob("monitor/**/*.py"), *ROOT.glob("probes/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def own_imports(name: str, node: ast.AST) -> Iterator[str]:
    """The own modules that an import statement loads."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules())
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"{name}: write whole names instead of relative imports"
        for alias in node.names:
            for found in (f"{node.module}.{alias.name}", node.module or ""):
                if found in modules():
                    yield found
                    break


@cache
def graph() -> dict[str, set[str]]:
    return {name: {other for node in ast.walk(tree(name)) for other in own_imports(name, node)} for name in modules()}


def room(name: str) -> tuple[int, str]:
    """The floor of a module, counted from the top, and its room there."""
    for floor, rooms in enumerate(FLOORS):
        for candidate in rooms:
            if name == candidate or name.startswith(f"{candidate}."):
                return floor, candidate
    raise AssertionError(f"{name} stands on no floor: give it a place in FLOORS and in docs/design.md")


def functions(name: str) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(tree(name)):
        if isinstance(node, Function):
            yield f"{modules()[name].relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_probes_know_nothing_of_monitor() -> None:
    assert {name: others for name, others in graph().items()
            if name.startswith("probes") and any(other.split(".")[0] == "monitor" for other in others)} == {}


def test_every_module_has_its_floor_and_every_room_exists() -> None:
    standing = {room(name)[1] for name in modules() if name not in EMPTY}
    assert standing == {candidate for rooms in FLOORS for candidate in rooms}


def test_imports_go_only_downwards() -> None:
    wrong = []
    for name in modules().keys() - EMPTY:
        floor, own = room(name)
        for other in graph()[name]:
            assert other not in EMPTY, f"{name} imports the empty package {other}"
            below, its = room(other)
            if its != own and below <= floor:
                wrong.append(f"{name} imports {other}, which is {'beside' if below == floor else 'above'} it")
    assert wrong == []


def test_packages_that_only_hold_others_import_nothing() -> None:
    assert {name: graph()[name] for name in EMPTY if graph()[name]} == {}


def test_no_cycles() -> None:
    """Not inside a room either; a package's own `__init__` counts as a module."""
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' > '.join(error.args[1])}")


def test_own_modules_are_imported_at_the_top() -> None:
    late = {
        label for name in modules().keys() - LATE for label, function in functions(name)
        for node in ast.walk(function) if list(own_imports(name, node))
    }
    assert late == set()


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_brings_no_input_or_output_with_it(name: str) -> None:
    """Imported in a fresh interpreter, with all its files."""
    files = [module for module in modules() if module == name or module.startswith(f"{name}.")]
    code = f"import sys, {', '.join(files)}; print(*(set({IMPURE!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in modules().values()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    lengths = {
        label: (function.end_lineno or 0) - function.lineno + 1 for name in modules() for label, function in functions(name)
    }
    assert {label: lines for label, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
    long = {label: lines for label, lines in lengths.items() if lines > MOST_FUNCTIONS}
    assert len(long) <= len(lengths) / 10, long


def catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or (isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"}) for one in caught)


def suppresses_all(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) == "suppress"
            and any(isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"} for one in node.args))


def lets_fly(handler: ast.ExceptHandler) -> bool:
    """It tidies up and raises the same again: nothing is caught for good."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_everything_is_caught_at_the_doors_only() -> None:
    found = set()
    for name, path in modules().items():
        whole = [(node, function.name) for _, function in functions(name) for node in ast.walk(function)]
        inside = {id(node) for node, _ in whole}
        whole += [(node, "") for node in ast.walk(tree(name)) if id(node) not in inside]
        for node, function in whole:
            if (isinstance(node, ast.ExceptHandler) and catches_all(node) and not lets_fly(node)) or suppresses_all(node):
                found.add((str(path.relative_to(ROOT)), function))
    assert found == DOORS.keys()


def test_the_design_names_the_same_floors() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    told = text.split("```text\ncli\n", 1)[1].split("```", 1)[0].splitlines()
    assert told == [" · ".join(name.removeprefix("monitor.") for name in floor) for floor in FLOORS[2:]]


def test_nothing_heavy_is_loaded_when_the_daemon_starts() -> None:
    """Whole histories may be worked through with arrays, in bench/; a daemon that starts must not wait for them."""
    code = "import sys, monitor.app; print([name for name in ('numpy', 'scipy', 'playwright', 'matplotlib', 'jinja2') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"
