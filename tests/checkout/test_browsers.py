"""A browser is found, is started as it should be or not at all, and reaches nothing that it may not: with the real ones."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from confined_street import Seen, street
from playwright.async_api import Browser, Error, Page, async_playwright

from probes.checkout import browsers, confinement, sandbox
from probes.checkout.browsers import Found, NoBrowserError, find
from probes.checkout.job import Launch

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
FIREFOX = shutil.which("firefox-esr")
AS_ROOT = os.geteuid() == 0
HOSTS = ("shop.localhost", "*.psp.localhost")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
needs_firefox = pytest.mark.skipif(FIREFOX is None, reason="no Firefox (Debian: firefox-esr)")
together = pytest.mark.asyncio(loop_scope="module")


# ---- which one -------------------------------------------------------------------------------------------------------

@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any browser: bin is its PATH, builds is where Playwright keeps its own."""
    for folder in ("bin", "builds"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "builds"))
    return tmp_path


def put(machine: Path, *names: str) -> None:
    for name in names:
        program = machine / "bin" / name
        program.touch(mode=0o755)


def own(machine: Path, name: str, *, whole: bool = True, revision: str = "") -> None:
    """A build of Playwright's own, of the revision that it drives."""
    told = browsers.own_builds()
    assert told == machine / "builds"
    asked = [sys.executable, "-m", "playwright", "install", "--dry-run", name]
    known = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    folder = Path(next(line.split(":", 1)[1].strip() for line in known if "location" in line and f"/{name.replace('-', '_')}-" in line))
    folder = folder.with_name(folder.name.rpartition("-")[0] + f"-{revision}") if revision else folder
    folder.mkdir(parents=True)
    if whole:
        (folder / "INSTALLATION_COMPLETE").touch()


def test_the_headless_shell_comes_before_the_full_browser_and_windows_need_that(machine: Path) -> None:
    put(machine, "google-chrome")
    assert find(Launch()).path == str(machine / "bin/google-chrome")
    put(machine, "chromium")
    assert find(Launch()).path == str(machine / "bin/chromium")
    put(machine, "chromium-headless-shell")
    assert find(Launch()).path == str(machine / "bin/chromium-headless-shell")
    assert find(Launch(headed=True)).path == str(machine / "bin/chromium")


def test_playwrights_own_build_comes_first_when_it_is_whole_and_the_right_one(machine: Path) -> None:
    put(machine, "chromium-headless-shell", "chromium")
    system = find(Launch())
    own(machine, "chromium-headless-shell", revision="1")
    own(machine, "chromium", whole=False)
    assert find(Launch()) == system
    (next(machine.glob("builds/chromium-*")) / "INSTALLATION_COMPLETE").touch()
    assert find(Launch()) == Found("Playwright's own Chromium", channel="chromium")
    own(machine, "chromium-headless-shell")
    assert find(Launch()) == Found("Playwright's own chromium-headless-shell")
    assert find(Launch(headed=True)) == Found("Playwright's own Chromium")


def test_what_is_named_is_taken_and_nothing_else(machine: Path) -> None:
    put(machine, "chromium", "mine", "my-headless_shell")
    named = str(machine / "bin/mine")
    assert find(Launch(executable_path=named)) == Found(named, named)
    assert find(Launch(channel="chrome")) == Found("channel chrome", channel="chrome")
    with pytest.raises(NoBrowserError, match=r"executable_path: .*/not-there is no program that this user can run"):
        find(Launch(executable_path=str(machine / "bin/not-there")))
    with pytest.raises(NoBrowserError, match="has no window to show: for --headed name the full browser"):
        find(Launch(executable_path=str(machine / "bin/my-headless_shell"), headed=True))


def test_firefox_as_the_system_has_it_is_driven_over_bidi_and_playwrights_own_is_not(machine: Path) -> None:
    put(machine, "firefox-esr")
    path = str(machine / "bin/firefox-esr")
    assert find(Launch(browser="firefox")) == Found(path, path, "moz-firefox")
    assert find(Launch(browser="firefox", executable_path=path)).channel == "moz-firefox"
    own(machine, "firefox")
    assert find(Launch(browser="firefox")) == Found("Playwright's own firefox")
    program = next(machine.glob("builds/firefox-*")) / "firefox"
    program.touch(mode=0o755)
    assert find(Launch(browser="firefox", executable_path=str(program))).channel == ""


@pytest.mark.parametrize(("launch", "mend"), [
    (Launch(), r"there is no Chromium: apt install chromium-headless-shell \(Debian\), or .* -m playwright install chromium; or name one"),
    (Launch(headed=True), r"no Chromium with windows: apt install chromium \(Debian\)"),
    (Launch(browser="firefox"), r"there is no Firefox: apt install firefox-esr \(Debian\), or .* -m playwright install firefox"),
    (Launch(browser="webkit"), r"there is no WebKit: only Playwright's own build can be driven \(.* -m playwright install webkit\)"),
], ids=lambda found: f"{found.browser} {found.headed}" if isinstance(found, Launch) else "")
def test_none_at_all_is_told_with_how_to_mend_it(machine: Path, launch: Launch, mend: str) -> None:
    with pytest.raises(NoBrowserError, match=mend):
        find(launch)


# ---- how it is started -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("browser", "words"), [("chromium", "Chromium's sandbox cannot be had as root"), ("firefox", "as root no browser is run")])
async def test_root_is_refused_before_anything_is_started(browser: str, words: str) -> None:
    refused = await sandbox.refusal(Launch(browser=browser), "", user=lambda: 0)
    assert refused == f"{words}; run as another user, or set [browser] no_sandbox = true"
    assert await sandbox.refusal(Launch(no_sandbox=True), "", user=lambda: 0) == ""


def test_without_namespaces_it_is_refused_before_anything_is_started() -> None:
    """In a user namespace that may have none below it, as containers and hardened machines are."""
    script = ("import asyncio; from probes.checkout import sandbox; from probes.checkout.job import Launch\n"
              "print(asyncio.run(sandbox.refusal(Launch(), '/nowhere/chromium', user=lambda: 1000)))")
    inside = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c",
              'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"']
    root = Path(browsers.__file__).parents[2]
    done = subprocess.run([*inside, sys.executable, script], capture_output=True, text=True, timeout=30, check=False, cwd=root)
    if "unshare" in done.stderr:
        pytest.skip(f"NOT RUN: no namespaces here at all: {done.stderr.strip()}")
    assert done.stdout.strip() == sandbox.NO_NAMESPACES, done.stderr


async def test_a_window_needs_a_screen(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    put(machine, "chromium")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    async with async_playwright() as playwright:
        with pytest.raises(NoBrowserError, match="needs a screen: neither DISPLAY nor WAYLAND_DISPLAY is set"):
            await browsers.launch(playwright, Launch(headed=True, no_sandbox=True))


async def test_a_program_that_is_no_browser_is_told_in_one_line() -> None:
    async with async_playwright() as playwright:
        with pytest.raises(NoBrowserError, match=r"\A/bin/false does not start: [^\n]*\Z"):
            await browsers.launch(playwright, Launch(executable_path="/bin/false", no_sandbox=True))


def test_its_own_sandbox_is_on_unless_that_was_refused_in_so_many_words() -> None:
    found = Found("x", "/x")
    assert browsers.options(Launch(), found)["chromium_sandbox"] is True
    assert browsers.options(Launch(no_sandbox=True), found)["chromium_sandbox"] is False


def test_shared_memory_stays_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "free", {Path("/dev/shm"): browsers.ROOMY}.__getitem__)
    assert browsers.options(Launch(), Found("x"))["ignore_default_args"] == ["--disable-dev-shm-usage"]
    monkeypatch.setattr(browsers, "ROOMY", browsers.ROOMY + 1)
    assert "ignore_default_args" not in browsers.options(Launch(), Found("x"))


@pytest.mark.parametrize("host", ["a, MAP * 192.0.2.1", "a;b", "", "https://shop.example", "shop example", "*", "a.*.example", 'a"b', "a:b\n"])
def test_what_is_no_host_becomes_no_rule(host: str) -> None:
    with pytest.raises(NoBrowserError, match=r"is no name of a host|hosts: "):
        browsers.options(Launch(hosts=(host,)), Found("x"))


def test_hosts_are_written_as_browsers_compare_them() -> None:
    assert confinement.plain_hosts(("Shop.Example", "*.psp.example", "bücher.example", "[::1]", "192.0.2.1")) == (
        "shop.example", "*.psp.example", "xn--bcher-kva.example", "::1", "192.0.2.1")


# ---- what it reaches -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """What daemons have in theirs: a secret, and a proxy. And time, for a busy machine takes its own to start a browser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browsers, "START_SECONDS", 50.0)
        patch.setenv("TILLWATCH_CANARY", "canary-in-environment")
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.setenv(name, "http://127.0.0.3:1")
            patch.setenv(name.upper(), "http://127.0.0.3:1")
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen() -> AsyncIterator[Seen]:
    async with street() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def confined() -> AsyncIterator[Browser]:
    """With an argument that would open everything, were it the last one."""
    wide = ("--host-resolver-rules=MAP nothing.example 127.0.0.1", "--proxy-server=127.0.0.3:1")
    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright, Launch(hosts=HOSTS, no_sandbox=AS_ROOT, args=wide))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(confined: Browser, seen: Seen) -> AsyncIterator[Page]:
    """On the shop's page, with nothing seen yet."""
    context = await confined.new_context()
    found = await context.new_page()
    await found.goto(f"http://shop.localhost:{seen.port}/")
    seen.asked.clear()
    yield found
    await context.close()


def strangers(seen: Seen) -> dict[str, list[str]]:
    """Who came to where nobody should: other places, or the shop's under another name."""
    named = {place: [told for told in asked if not told.startswith(("shop.localhost ", "a.psp.localhost ", "b.a.psp.localhost "))]
             for place, asked in seen.asked.items()}
    return {place: asked for place, asked in named.items() if asked}


# Other names; and addresses in all the ways in which they can be written.
ELSEWHERE = ("evil.localhost", "psp.localhost", "evilpsp.localhost", "a.shop.localhost", "localhost", "localhost.localdomain", "127.0.0.1",
             "127.0.0.2", "2130706434", "0x7f.2", "0177.0.0.2", "127.2", "127.0.0.2.", "0", "[::1]", "[::ffff:127.0.0.2]", "169.254.169.254")


@needs_chromium
@together
async def test_fetch_and_pages_reach_the_named_hosts_alone(page: Page, seen: Seen) -> None:
    ask = ("async urls => Object.fromEntries(await Promise.all(urls.map(async url => "
           "[url, await fetch(url, {mode: 'no-cors', signal: AbortSignal.timeout(20000)}).then(() => true, () => false)])))")
    urls = {host: f"http://{host}:{seen.port}/" for host in ("shop.localhost", "a.psp.localhost", "b.a.psp.localhost", *ELSEWHERE)}
    reached = await page.evaluate(ask, list(urls.values()))
    assert {host for host, url in urls.items() if reached[url]} == {"shop.localhost", "a.psp.localhost", "b.a.psp.localhost"}
    for url in (urls["127.0.0.2"], urls["evil.localhost"], f"http://shop.localhost:{seen.port}/?to={urls['127.0.0.2']}"):
        other = await page.context.new_page()
        with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
            await other.goto(url)
    assert strangers(seen) == {}


@needs_chromium
@together
async def test_sockets_workers_and_hints_reach_nothing_else(page: Page, seen: Seen) -> None:
    web_socket = "url => new Promise(done => { const w = new WebSocket(url); w.onerror = w.onopen = () => done(0) })"
    for host in ("127.0.0.2", "evil.localhost", "shop.localhost"):
        await page.evaluate(web_socket, f"ws://{host}:{seen.port}/socket")
    told = await page.evaluate("""async urls => {
        await navigator.serviceWorker.register('/worker.js')
        const worker = (await navigator.serviceWorker.ready).active
        return await new Promise(done => { navigator.serviceWorker.onmessage = event => done(event.data); worker.postMessage(urls) })
    }""", [f"http://127.0.0.2:{seen.port}/worker", f"http://shop.localhost:{seen.port}/from-worker"])
    assert list(told.values()) == [False, True]
    await page.evaluate("""url => {
        for (const rel of ['preconnect', 'prefetch', 'dns-prefetch', 'icon', 'stylesheet']) document.head.append(
            Object.assign(document.createElement('link'), {rel, href: url}))
        for (const tag of ['img', 'script', 'iframe', 'video']) document.body.append(Object.assign(document.createElement(tag), {src: url}))
        navigator.sendBeacon(url, 'x')
    }""", f"http://127.0.0.2:{seen.port}/hint")
    await page.evaluate("url => new WebTransport(url).ready.catch(() => 0)", f"https://127.0.0.2:{seen.port}/transport")
    assert strangers(seen) == {}
    assert any("/socket" in asked for asked in [*seen.asked.get("127.0.0.1", ()), *seen.asked.get("::1", ())])


@needs_chromium
@together
async def test_webrtc_sends_nothing(page: Page, seen: Seen) -> None:
    """By address it would go past the rules for names."""
    gathered = await page.evaluate("""async place => {
        const relay = {urls: `turn:${place}?transport=tcp`, username: 'u', credential: 'p'}
        const one = new RTCPeerConnection({iceServers: [{urls: 'stun:' + place}, relay]})
        const other = new RTCPeerConnection(), found = []
        one.createDataChannel('x')
        one.onicecandidate = event => event.candidate && found.push(event.candidate.candidate)
        await one.setLocalDescription(await one.createOffer())
        await other.setRemoteDescription(one.localDescription)
        await other.setLocalDescription(await other.createAnswer())
        await one.setRemoteDescription(other.localDescription)
        const [host, port] = place.split(':')
        await one.addIceCandidate({candidate: `candidate:1 1 udp 2113937151 ${host} ${port} typ host`, sdpMid: '0', sdpMLineIndex: 0})
        await new Promise(done => { one.onicegatheringstatechange = () => one.iceGatheringState == 'complete' && done(); setTimeout(done, 1500) })
        return found
    }""", f"127.0.0.2:{seen.port}")
    assert gathered == []
    assert strangers(seen) == {}


def environments(argument: bytes) -> list[bytes]:
    """Those of all processes that were started with this argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):                            # one that ended meanwhile
            if argument in path.read_bytes():
                found.append(path.with_name("environ").read_bytes())
    return found


@needs_chromium
@together
async def test_nothing_of_ours_is_in_its_environment(confined: Browser) -> None:
    assert confined.is_connected()
    found = environments(b"MAP nothing.example")
    assert found
    assert [text for text in found if b"canary-in-environment" in text or b"proxy" in text.lower()] == []


@needs_chromium
@together
async def test_without_hosts_the_cloud_s_own_addresses_are_out_of_reach_all_the_same() -> None:
    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright, Launch(no_sandbox=AS_ROOT))
        page = await browser.new_page()
        for url in ("http://169.254.169.254/", "http://2852039166/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/",
                    "http://[fd00:ec2::254]/", "http://metadata.google.internal/"):
            with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
                await page.goto(url)
        with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
            await page.goto("http://127.0.0.1:2/")
        await browser.close()


@needs_firefox
@together
@pytest.mark.timeout(120)
async def test_firefox_reaches_the_named_hosts_alone(seen: Seen) -> None:
    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright, Launch(browser="firefox", hosts=HOSTS, no_sandbox=AS_ROOT))
        page = await browser.new_page()
        for host in ("shop.localhost", "a.psp.localhost"):
            await page.goto(f"http://{host}:{seen.port}/")
        seen.asked.clear()
        for host in ("evil.localhost", "psp.localhost", "localhost", "127.0.0.2", "2130706434", "[::1]", "169.254.169.254"):
            with pytest.raises(Error):
                await page.goto(f"http://{host}:{seen.port}/", timeout=5000)
        await page.goto(f"http://shop.localhost:{seen.port}/")
        assert await page.evaluate("typeof RTCPeerConnection + typeof WebTransport") == "undefinedundefined"
        await browser.close()
    assert strangers(seen) == {}
