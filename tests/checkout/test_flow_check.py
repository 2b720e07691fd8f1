"""`tillwatch flow check`: what is seen of a flow without running it."""

import json
import re
from pathlib import Path
from textwrap import dedent, indent

import pytest
from click.testing import CliRunner

from monitor.client import CommandError
from monitor.flows.verbs import flow
from probes.checkout.inspection import inspect, step_names, uses
from probes.checkout.inspection_steps import inspect_steps
from probes.checkout.steps import _MODIFIERS, ACTIONS, Action, DeclaredStep
from probes.checkout.targets import KINDS, parse

ROOT = Path(__file__).resolve().parents[2]
FLOWS = sorted(ROOT.glob("flows/*.py"))
CLOSED = 'await expect(page.get_by_text("x")).to_be_visible()'
HEAD = "import asyncio\nimport time\nfrom time import sleep as nap\nfrom playwright.async_api import expect\n\n\n"
PAYMENT = f'async with flow.step("payment"):\n    await flow.submit(page.get_by_role("button", name="Pay"))\n    {CLOSED}\n'


def python(body: str, last: str = PAYMENT) -> str:
    return f"{HEAD}async def checkout(flow):\n    page = flow.page\n{indent(dedent(body) + last, '    ')}"


def step(*lines: str, name: str = "home") -> str:
    return f'async with flow.step("{name}"):\n' + indent("\n".join(lines), "    ") + "\n"


def told(source: str, stop_before: str = "payment") -> list[tuple[int, str, str]]:
    """Line from the first of the function's body, level, text."""
    return [(remark.line - 7, remark.level, remark.text) for remark in inspect(source, stop_before)]


ENDS = {                   # how a step ends -> whether that is an assertion
    "page.goto('/')": False, CLOSED: True, 'await page.wait_for_url("**/a")': True, 'await page.locator("a").wait_for()': True,
    'await page.locator("a").click()': False, f'await page.locator("a").click()\n{CLOSED}': True, f'{CLOSED}\nawait page.locator("a").click()': False,
    "assert await page.title() == 'x'": True, f'{CLOSED}\nflow.order(await page.locator("a").inner_text())': True, "pass": False,
    'async with page.expect_response("**/a") as info:\n    await page.locator("a").click()': True,
    'if await page.locator("b").is_visible():\n    await page.locator("b").click()': False,
    f'if await page.locator("b").is_visible():\n    await page.locator("b").click()\n{CLOSED}': True,
    "await login(page)": True, "await buy(page)": False, "await elsewhere.login(page)": True, "await page.wait_for_load_state()": False,
    "await asyncio.gather(expect(page.locator('a')).to_have_text('b'), page.locator('c').click())": False,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_step_must_end_with_an_assertion(end: str) -> None:
    click = "(page):\n    await page.locator('a').click()\n"
    helpers = f"\n\nasync def login{click}    {CLOSED}\n\n\nasync def buy{click}"
    remarks = [text for _, _, text in told(python(step(*end.split("\n"))) + helpers)]
    assert any("does not end with an assertion" in text for text in remarks) is not ENDS[end]


REMARKS: dict[str, tuple[str, tuple[int, str, str]]] = {
    "twice": (step(CLOSED) + step(CLOSED), (4, "error", 'there are 2 steps "home"')),
    "with": ('with flow.step("home"):\n    pass\n', (2, "error", 'write `async with flow.step("home"):`')),
    "not awaited": (step('page.goto("/")', CLOSED), (3, "error", "goto is not awaited")),
    "not awaited in an assertion": (step("assert page.title() == 'x'"), (3, "error", "title is not awaited")),
    "expect not awaited": (step(CLOSED.removeprefix("await ")), (3, "error", "to_be_visible is not awaited")),
    "blocking": (step("time.sleep(1)", CLOSED), (3, "warning", "time.sleep stands still")),
    "blocking by another name": (step("nap(1)", CLOSED), (3, "warning", "nap stands still")),
    "pause": (step("await page.pause()", CLOSED), (3, "error", "pause waits for a person")),
    "waiting": (step("await page.wait_for_timeout(500)", CLOSED), (3, "warning", "wait_for_timeout always waits so long")),
    "for ever": (step('await page.goto("/", timeout=0)', CLOSED), (3, "warning", "timeout=0 waits for ever")),
    "outside": ('await page.goto("/")\n' + step(CLOSED), (2, "warning", "goto stands outside of every step")),
    "variable name": (f"name = 'x'\nasync with flow.step(name):\n    {CLOSED}\n", (3, "warning", "write the step's name out")),
    "real card": (step('await page.get_by_label("Card").fill("4539 5787 6362 1486")', CLOSED), (3, "error", "4539 57…1486 is no known test card")),
    "password": (step('await page.get_by_label("Password").fill("hunter2")', CLOSED), (3, "warning", "a password stands in the flow")),
    "password of a page": (step('await page.fill("#password", "hunter2")', CLOSED), (3, "warning", "a password stands in the flow")),
    "named password": ("password = 'hunter2'\n" + step(CLOSED), (2, "warning", "a password stands in the flow")),
    "too early": (step('await page.get_by_role("button", name="Pay now").click()', CLOSED), (3, "warning", '"Pay now" looks as if it placed')),
    "route": (step('await page.route("**/*", lambda route: route.abort())', CLOSED), (3, "note", "route switches the browser's cache off")),
}


@pytest.mark.parametrize("name", REMARKS)
def test_a_remark_has_its_line(name: str) -> None:
    body, (line, level, text) = REMARKS[name]
    found = told(python(body))
    assert any((at, how) == (line, level) and said.startswith(text) for at, how, said in found), found


@pytest.mark.parametrize("line", [
    'await page.get_by_label("Password").fill(flow.secret("password"))', 'await page.get_by_label("Card").fill("4242 4242 4242 4242")',
    "task = asyncio.create_task(page.wait_for_url('**/a'))\nawait task", "'a b'.title()", "text = ['a'].count('a')",
    "response = await page.goto('/')",
    'await page.get_by_role("link", name="Buy now as a guest").click()', "flow.vars['x'] = 'y'", 'page.on("dialog", lambda dialog: dialog.accept())',
    "await expect(page).not_to_have_title('x')", 'await page.get_by_role("button", name="Payment methods").click()',
])
def test_what_is_well_has_no_remark(line: str) -> None:
    assert told(python(step(*line.split("\n"), CLOSED))) == []


@pytest.mark.parametrize(("source", "words"), [
    ("def checkout(flow):\n    pass", "write `async def checkout(flow)`"),
    ("async def buy(flow):\n    pass", "there is no `async def checkout(flow)`"),
    ("async def checkout(flow, page):\n    pass", "called with the flow and nothing else"),
    ("async def checkout(flow):\n    pass", "there is no step"),
    ("async def checkout(flow)\n    pass", "this is no Python"), ("\0", "this is no Python"), ("(" * 5000, "this is no Python"),
    ("x" * 1_000_001, "larger"),
    ((ROOT / "tests/data/flows/recorded.txt").read_text(), "`tillwatch flow record --from FILE -o flow.py` makes a flow of it"),
])
def test_what_is_no_flow(source: str, words: str) -> None:
    assert any(words in remark.text and remark.level == "error" for remark in inspect(source))


ASKS = ("nothing in the flow says where it places the order: write flow.submit(button), or submits=True in the step, so that it happens once a run "
        "and is counted")


def test_how_far_it_goes() -> None:
    order = step(CLOSED, name="order")
    assert told(python(step(CLOSED), order), "order") == [(4, "note", ASKS)]
    assert [how for _, how, _ in told(python(step(CLOSED), order), "")] == ["warning"]
    assert told(python(step(CLOSED)), "") == []
    assert told(python(step(CLOSED), order), "pay")[0][1:] == (
        "error", 'stop_before = "pay" is no step, so the flow would not stop there; its steps: "home", "order"')
    after = told(python(step(CLOSED), PAYMENT + order))
    assert after == [(4, "note", 'the flow stops before "payment": "payment", "order" only run with stop_before = ""')]


def test_names_of_steps() -> None:
    assert step_names(python(step(CLOSED) + step(CLOSED, name="pay"))) == ["home", "pay", "payment"]
    assert step_names(python("async with flow.step(f'{x}'):\n    pass\n")) is None
    assert step_names(python("for x in 'ab':\n    async with flow.step(x):\n        pass\n")) is None
    assert step_names(python("async with flow.step(name='a', submits=True):\n    pass\n", "")) == ["a"]
    cleanup = "\n\nasync def cleanup(flow, order):\n" + indent(step(CLOSED, name="payment"), "    ")
    assert step_names(python(step(CLOSED), "") + cleanup) == ["home"]
    assert step_names("async def checkout(flow)") is None
    assert step_names("pass") == []


def test_names_that_a_flow_uses() -> None:
    source = python(step("flow.vars['own'] = 'x'", "flow.vars['own']", "flow.vars['city']", 'flow.secret("card")'), "")
    assert uses(source) == [(12, False, "city"), (13, True, "card")]
    assert uses("(") == []


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.name)
def test_shipped_flows_have_no_remarks(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [remark for stop in ("payment", "") for remark in inspect(source, stop) if remark.level != "note"] == []
    assert "tried" in source.lower()


# ---- declared steps --------------------------------------------------------------------------------------------------


def declared(*steps: dict[str, object]) -> list[tuple[tuple[str | int, ...], str, str]]:
    models = [DeclaredStep.model_validate({"name": f"step {number}", **one}) for number, one in enumerate(steps)]
    return [(remark.path, remark.level, remark.text) for remark in inspect_steps(models)]


PAY = {"name": "payment", "do": [{"submit": "button: Pay"}, {"see": "text: Thank you"}]}


@pytest.mark.parametrize(("step", "path", "level", "words"), [
    ({"do": [{"goto": "/"}]}, (0, "do", 0), "warning", "does not end with an assertion"),
    ({"do": [{"see": "text: a"}, {"click": "button: b"}, {"eval": "1"}]}, (0, "do", 2), "warning", "does not end with an assertion"),
    ({"do": [{"pause": "1s"}, {"see": "text: a"}]}, (0, "do", 0), "warning", "pause always waits so long"),
    ({"do": [{"fill": {"label: Password": "hunter2"}}, {"see": "text: a"}]}, (0, "do", 0), "warning", "a password stands in the flow"),
    ({"do": [{"type": {"label: Card": "4539578763621486"}}, {"see": "text: a"}]}, (0, "do", 0), "error", "4539 57…1486 is no known test card"),
    ({"do": [{"click": "button: Place order"}, {"see": "text: a"}]}, (0, "do", 0), "warning", '"Place order" looks as if it placed the order'),
    ({"name": "payment", "do": [{"see": "text: a"}]}, (0, "name"), "error", 'there are 2 steps "payment"'),
])
def test_declared_steps_have_the_same_remarks(step: dict[str, object], path: tuple[str | int, ...], level: str, words: str) -> None:
    found = declared(step, PAY)
    assert any((at, how) == (path, level) and words in said for at, how, said in found), found


def test_good_declared_steps_have_none() -> None:
    assert declared({"do": [{"goto": "/"}, {"see": "text: a"}, {"scroll": "top"}]}, {"do": [{"fill": {"label: Password": "{run}"}}, {"url": "/"}]},

                    {"do": [{"click_and_wait": "button: Next", "path": "/ajax"}]}, PAY) == []
    assert [level for _, level, _ in declared({"do": [{"see": "text: a"}]})] == ["error", "warning"]


# ---- the verb --------------------------------------------------------------------------------------------------------


def check(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(flow, ["check", *arguments])
    if isinstance(result.exception, CommandError):
        return result.exception.code, str(result.exception)
    return result.exit_code, result.output


def test_the_shipped_flows_are_checked() -> None:
    code, output = check(str(ROOT / "flows/checkout.py"), str(ROOT / "flows/checkout.toml"))
    assert (code, output.splitlines()[0]) == (0, f"{ROOT}/flows/checkout.py: home → category → product → basket → checkout → payment")


def test_remarks_can_be_jumped_to(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text(python(step('await page.goto("/")')))
    code, output = check(str(path))
    assert code == 1
    assert f'{path}:9: warning: the step "home" does not end with an assertion' in output
    code, output = check(str(path), "--json")
    document = json.loads(output[output.index("{"):])
    assert (code, document["ok"], document["remarks"][0]["line"], document["remarks"][0]["level"]) == (1, False, 9, "warning")
    assert check(str(path), "--stop-before", "")[0] == 1
    assert check(str(tmp_path / "none.py")) == (2, f"{tmp_path}/none.py: No such file or directory")


CONFIG = """[[probe]]
name = "home"
kind = "http"

[[probe]]
name = "checkout"
kind = "checkout"
stop_before = "pay"
secrets = { card = "4242 4242 4242 4242" }

[[probe.step]]
name = "home"
do = [
    { goto = "/" },
    { clik = "button: Add" },
    { see = "hedding: Basket" },
]
"""


def test_a_configuration_is_checked_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    code, output = check(str(path))
    assert code == 1
    assert output.splitlines()[:2] == [f'{path}:15: error: clik: unknown key; did you mean "click"?',
                                       f'{path}:16: error: see: "hedding:" is no kind of target; did you mean "heading:"?']
    path.write_text(CONFIG.replace("clik", "click").replace("hedding", "heading").replace("Basket", "{town} basket"))
    code, output = check(str(path))
    assert code == 1
    assert f'{path}:12: error: stop_before = "pay" is no step' in output
    assert f'{path}:11: error: step "home": there is no variable "town"' in output


def test_the_flow_of_a_configuration_is_checked_with_its_names(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(python(step('await page.get_by_label("Town").fill(flow.vars["town"])', 'flow.secret("pin")', CLOSED)))
    config = tmp_path / "config.toml"
    config.write_text('[[probe]]\nname = "c"\nkind = "checkout"\nflow = "flow.py"\nvariables = { city = "x" }\n')
    code, output = check(str(config))
    assert code == 1
    assert f'{tmp_path}/flow.py:10: error: there is no variable "town": add it to variables of the probe in {config}' in output
    assert f'{tmp_path}/flow.py:11: error: there is no secret "pin": add it to secrets of the probe in {config}' in output
    config.write_text('[[probe]]\nname = "c"\nkind = "checkout"\n')
    assert check(str(config)) == (1, f'{config}:1: error: the probe has no flow: give flow = "FILE", or [[probe.step]] tables\n{config}: 1 remark\n')
    config.write_text('[[probe]]\nname = "c"\nkind = "http"\n')
    assert check(str(config)) == (2, f'{config}: has no [[probe]] of kind = "checkout"')
    config.write_text("a = \n")
    assert check(str(config))[0] == 2


# ---- the docs --------------------------------------------------------------------------------------------------------


def test_the_docs_have_every_action_target_and_flow() -> None:
    text = (ROOT / "docs" / "flows.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+) = ", cell)} - {*Action.model_fields} == set()
    assert set(ACTIONS) <= {name for cell in cells for name in re.findall(r"`(\w+) = ", cell)}
    targets = [target for cell in cells for target in re.findall(r"`(\w+: [^`]+)`", cell)]
    assert {parse(target.removesuffix(" >> ...")).parts[-1].kind for target in targets} >= {*KINDS} - {"frame"}
    beside = {line.split("|")[1].split("`")[1].split(" ")[0]: set(re.findall(r"`(\w+)`", line.split("|")[3])) for line in text.splitlines()
              if re.match(r"\| `\w+ = .*\|.*\|.*\|", line)}
    assert beside == {action: set(_MODIFIERS[action]) for action in ACTIONS if action != "uncheck"}
    tried = {name for cell in cells for name in re.findall(r"`(\w+\.(?:py|toml))`", cell)}
    assert tried == {path.name for path in ROOT.glob("flows/*")}


def test_the_examples_of_the_docs_have_no_remarks(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "flows.md").read_text(encoding="utf-8")
    for number, (language, example) in enumerate(re.findall(r"^```(python|toml fragment)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
        path = tmp_path / f"{number}.{'py' if language == 'python' else 'toml'}"
        path.write_text(example)
        assert check(str(path))[0] == 0, check(str(path))[1]
