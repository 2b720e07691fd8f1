"""What the owner of a shop is told: by hand, by `check-config`, in a step that went wrong, on a page."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from till_stage import CHROMIUM, Till, opened

from monitor import by_hand
from monitor.config import ConfigError, load
from probes.checkout.probe import Manner
from probes.checkout.server import ServedError, serve
from probes.checkout.settings import BrowserSettings
from probes.sample import Outcome, Sample, Step
from probes.table import PROBES

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
HURRIED = ("timeout: 10 s for the whole flow, and one step may wait 15 s (step_timeout): what it waits for in vain will be told as a time-out, "
           'without its name. A checkout mostly wants timeout = "60s" of its own, whatever [defaults] says')
FLOW = """\
from playwright.async_api import expect


async def checkout(flow):
    async with flow.step("home"):
        await flow.page.goto("/")
        await expect(flow.page.get_by_role("heading", level=1)).to_be_visible()
    async with flow.step("payment"):
        pass
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Till]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: `make servers` installs it")
    async with opened(tmp_path_factory.mktemp("till")) as stage:
        yield stage


def config(folder: Path, keys: str = "", *, flow: str = FLOW, mode: int = 0o600, more: str = "") -> Path:
    (folder / "flow.py").write_text(flow)
    path = folder / "config.toml"
    path.touch(mode)
    path.chmod(mode)
    shop = '[shop]\nname = "shop"\nurl = "http://127.0.0.1:9"\n'
    path.write_text(f'{shop}{more}\n[[probe]]\nname = "buy"\nkind = "checkout"\nflow = "flow.py"\n{keys}')
    return path


@IN_MODULE
async def test_an_assertion_waits_as_long_as_step_timeout_says(till: Till) -> None:
    """Playwright's own five seconds would be neither what the configuration says nor what the documentation promises."""
    source = FLOW.partition("\n\n\n")[2].replace("level=1", 'name="No such thing"')
    goto = 'await flow.page.goto("/")\n'
    assert goto in source
    sample = await till.buy(source.replace(goto, f'{goto[:-2]}, timeout=30000)\n    async with flow.step("look"):\n'), step_timeout="700ms")
    assert (sample.outcome, sample.reason) == (Outcome.FAILED, "step")
    assert [(step.name, step.reason) for step in sample.steps] == [("home", ""), ("look", "step")]
    assert 0.6 < sample.steps[1].seconds < 4
    assert 'expected to be visible, but there is none (waited for get_by_role("heading", name="No such thing"))' in sample.evidence


@IN_MODULE
async def test_the_title_of_an_error_page_is_told_as_a_person_reads_it(till: Till) -> None:
    sample = await till.buy(FLOW.partition("\n\n\n")[2].replace('"/"', '"/no-such-page"'))
    assert (sample.outcome, sample.reason) == (Outcome.FAILED, "status")
    assert "Kettle & Leaf" in sample.evidence


def test_a_run_by_hand_is_told_step_by_step() -> None:
    kept = "/tmp/e/1a.png"
    sample = Sample(
        probe="buy", outcome=Outcome.FAILED, reason="step", seconds=5.5,
        evidence=f'step "basket": no such button [screenshot {kept}, page /tmp/e/2b.txt]',
        steps=(Step("home", Outcome.OK, 0.3, ""), Step("basket", Outcome.FAILED, 5.2, "step")), values={"ttfb/home": 0.02, "lcp/home": 0.1},
        counts={"requests": 5, "kilobytes": 6, "page_errors": 0, "asset_errors": 1, "signature/error:asset script answered 404 at /a.js": 2},
        facts={"ttfb": 0.02, "cls": 0.0})
    assert by_hand.as_text(sample).splitlines() == [
        "buy: failed (step) in 5.50 s", '  step "basket": no such button', "  home      300 ms  ok  TTFB 20 ms, LCP 100 ms",
        "  basket    5.20 s  failed (step)", "  seen: asset script answered 404 at /a.js, 2 times", "  5 requests, 6 kB, asset errors: 1",
        f"  screenshot: {kept}", "  page: /tmp/e/2b.txt"]
    unread = Sample(probe="buy", outcome=Outcome.BROKEN, reason="flow", evidence="no such file")
    assert by_hand.as_text(unread) == "buy: broken (flow)\n  no such file"


async def test_a_browser_that_is_to_be_seen_is_started_here_and_not_behind_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    found = load(config(tmp_path, more=f'[browser]\nno_sandbox = {str(os.geteuid() == 0).lower()}\nsocket = "nobody"'))
    seen, unseen = [await by_hand.run(found, found.probe[0], device="", manner=Manner(headed=headed), evidence=tmp_path) for headed in (True, False)]
    assert "browser service" in unseen.evidence
    assert "--headed" in seen.evidence
    assert "browser service" not in seen.evidence


@pytest.mark.parametrize(("keys", "flow", "warning"), [
    ("", FLOW.replace("await flow.page.goto", "flow.page.goto"),
     "flow: flow.py:6: goto is not awaited, so it is never done: write `await` before it"),
    ("", FLOW.replace("(flow):", "(flow)"), "flow: flow.py:4: this is no Python: expected ':'"),
    ('stop_before = "paymnet"', FLOW, 'stop_before: no step of flow.py is called "paymnet", so every run will be refused'),
    ('secrets = { card = "4539 5787 6362 1486" }', FLOW, "secrets.card: 4539 57…1486 is no known test card, so every run will be refused"),
    ('timeout = "10s"', FLOW, HURRIED),
])
def test_check_config_says_what_will_go_wrong(tmp_path: Path, keys: str, flow: str, warning: str) -> None:
    told = [line for line in load(config(tmp_path, keys, flow=flow)).warnings if line.startswith("probe")]
    assert told == [f'probe "buy": {warning}']


def test_defaults_for_plain_probes_are_noticed_where_they_are_too_short_for_a_checkout(tmp_path: Path) -> None:
    found = load(config(tmp_path, more='[defaults]\ninterval = "30s"\ntimeout = "10s"'))
    assert any(line.startswith('probe "buy": timeout: 10 s for the whole flow') for line in found.warnings)


def test_a_password_in_a_file_that_everybody_can_read_is_refused_and_a_test_card_is_not(tmp_path: Path) -> None:
    load(config(tmp_path, 'secrets = { card = "4242 4242 4242 4242", code = "123", until = "12/30" }', mode=0o644))
    with pytest.raises(ConfigError) as refused:
        load(config(tmp_path, 'secrets = { card = "4242 4242 4242 4242", password = "hunter2" }', mode=0o644))
    assert [problem.path for problem in refused.value.problems] == ["probe[0].secrets.password"]
    load(config(tmp_path, 'secrets = { password = "hunter2" }', mode=0o600))


async def test_a_socket_that_cannot_be_made_is_told_and_no_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ServedError, match="File name too long"):
        await serve(tmp_path / ("x" * 300), BrowserSettings())


@pytest.mark.parametrize("kind", PROBES)
def test_no_two_signals_have_one_name(kind: str) -> None:
    """They are told apart by it, in Prometheus too, which takes no series twice."""
    assert [name for name, count in Counter(signal.name for signal in PROBES[kind].signals).items() if count > 1] == []
