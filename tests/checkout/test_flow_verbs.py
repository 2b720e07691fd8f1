"""`tillwatch flow record`: what Playwright's recorder wrote becomes a flow."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from flow_stage import CHROMIUM, shop

from monitor.client import CommandError
from monitor.flows.recording import NoRecordingError, convert
from monitor.flows.verbs import flow
from probes.aside import aside
from probes.checkout.inspection import inspect, step_names

DATA = Path(__file__).resolve().parents[1] / "data" / "flows"
RECORDED, PARTS = (DATA / name for name in ("recorded.txt", "recorded_parts.txt"))


def test_a_recording_becomes_steps() -> None:
    text = convert(RECORDED.read_text(), "tea.py")
    assert step_names(text) == ["home", "green tea", "sencha kagoshima", "add to basket", "go to checkout", "payment"]
    remarks = [(remark.level, remark.text.partition(" does")[0]) for remark in inspect(text)]
    assert remarks == [("warning", 'the step "payment"')]          # nobody can know what comes after the last click
    assert 'await flow.submit(page.get_by_role("button", name="Pay now"))' in text
    assert 'await page.goto("/")' in text
    assert 'flow = "tea.py"' in text
    assert 'name="Quantity").click()' not in text


def test_what_was_typed_stays_out_of_it() -> None:
    text = convert(RECORDED.read_text())
    for typed in ("4242", "till@shop.example"):
        assert typed not in text
    text = convert(PARTS.read_text())
    for typed in ("5555", "4242", "hunter2", "737"):
        assert typed not in text
    assert 'secrets = { card = { env = "TEST_CARD" }, cvc = { env = "TEST_CVC" }, password = { env = "TEST_PASSWORD" } }' in text


def test_frames_windows_dialogs_and_devices_are_kept() -> None:
    text = convert(PARTS.read_text())
    compile(text, "flow.py", "exec")
    assert 'devices = ["Pixel 7"]' in text
    assert r'content_frame.get_by_role("textbox", name="Card number").fill(flow.secret("card"))' in text
    assert '        async with page.expect_popup() as page1_info:\n            await page.get_by_role("link", name="Terms").click()\n' in text
    assert '"ask"):\n        page.once("dialog", lambda dialog: dialog.dismiss())\n        await page.get_by_role("button", name="Ask")' in text
    assert step_names(text) == ["home", "payment", "ask"]
    assert "not awaited" not in "".join(remark.text for remark in inspect(text))


SCRIPT = """from playwright.async_api import async_playwright, expect
async def run(playwright):
    browser = await playwright.chromium.launch()
    page = await browser.new_page()
    await page.goto("https://shop.example/tea?page=2")
    await page.get_by_role("link", name="Tea").click()
    await page.get_by_role("link", name="Tea").click()
    await page.goto("https://other.example/x")
    await expect(page.get_by_text("a")).to_be_visible()
    await page.get_by_text(re.compile("b")).click()
"""


def test_steps_get_names_of_their_own() -> None:
    text = convert(SCRIPT)
    assert step_names(text) == ["tea", "tea 2", "tea 3", "x"]
    assert 'await page.goto("/tea?page=2")' in text
    assert 'await page.goto("https://other.example/x")' in text
    assert text.count("import re\n") == 1
    assert "variables" not in text
    assert "secrets" not in text


@pytest.mark.parametrize(("text", "words"), [
    ("async def checkout(flow): pass", "this is a flow already"), ("(", "no Python"), ("x = 1", "nothing that `playwright codegen"),
    (SCRIPT.replace("async_playwright, ", "sync_playwright, "), "record it with --target python-async"),
    ("async def run(playwright):\n    page = await context.new_page()\n", "nothing was recorded"),
])
def test_what_cannot_be_made_a_flow_says_why(text: str, words: str) -> None:
    with pytest.raises(NoRecordingError, match=words):
        convert(text)


# ---- the verb --------------------------------------------------------------------------------------------------------


def record(*arguments: str, **environment: str | None) -> tuple[int, str]:
    result = CliRunner(env={"DISPLAY": None, "WAYLAND_DISPLAY": None, **environment}).invoke(flow, ["record", *arguments])
    if isinstance(result.exception, CommandError):
        return result.exception.code, str(result.exception)
    return result.exit_code, result.output


def test_a_pasted_script_is_taken(tmp_path: Path) -> None:
    output = tmp_path / "flow.py"
    assert record("--from", str(RECORDED), "-o", str(output))[0] == 0
    assert output.read_text() == convert(RECORDED.read_text())
    assert record("--from", str(RECORDED), "-o", str(output)) == (2, f"{output} is there already: name another file with -o")
    assert record("--from", str(output), "-o", "-")[1] == "this is a flow already: it has `async def checkout(flow)`"
    assert record("--from", str(RECORDED), "-o", "-") == (0, convert(RECORDED.read_text()))
    assert record("--from", str(RECORDED), "-o", str(tmp_path / "no" / "flow.py"))[0] == 2


def test_it_is_told_what_to_record() -> None:
    for arguments in ([], ["shop.example"], ["https://shop.example", "--from", str(RECORDED)]):
        assert record(*arguments)[0] == 2


def test_without_a_screen_it_says_how_else() -> None:
    code, words = record("https://shop.example/")
    assert code == 2
    assert "recording needs a screen" in words
    assert "tillwatch flow record https://shop.example/ -o flow.py" in words


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
async def test_the_real_recorder_records(tmp_path: Path) -> None:
    """Playwright's own, with its switches for a machine without a screen: it opens the shop, and is closed after a second."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nexec {CHROMIUM} "$@"\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    switches = {"DISPLAY": ":none", "PWTEST_CLI_HEADLESS": "1", "PWTEST_CLI_IS_UNDER_TEST": "1"}
    async with shop() as url:
        for milliseconds in (1000, 5000, 20000):           # the first is too short for a busy machine to have noted where it went
            output, switches["PWTEST_CLI_EXIT_AFTER_TIMEOUT"] = tmp_path / f"flow-{milliseconds}.py", f"{milliseconds}"
            arguments = f"{url}/basket", "-o", str(output), "--executable-path", str(browser)
            code, said = await aside(lambda arguments=arguments: record(*arguments, **switches), "record")  # type: ignore[misc]
            if code == 0 and "page.goto" in output.read_text():
                break
    assert code == 0, said
    assert 'await page.goto("/basket")' in output.read_text()
    assert f'url = "{url}"' in output.read_text()


async def test_a_browser_that_is_none_is_told(tmp_path: Path) -> None:
    code, words = record("https://shop.example/", "--executable-path", str(tmp_path / "none"), DISPLAY=":none")
    assert code == 2
    assert "none is no program" in words
