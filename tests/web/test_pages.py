"""The operator pages over a real listener and a real store: what they say, whom they let in, and that nothing in them can act."""

import asyncio
import base64
import hashlib
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme
from exhibits import REGRESSION, WATCHED, keep, log, many, outage, own_fault, signal, slower, target, update
from shopfront import TOKENS, Front, front, made

from monitor import signal_words
from monitor.incidents import Transition, acknowledged, on_regression
from monitor.judge.explain import WHYS
from monitor.updates import Changed, Status
from monitor.web import pages
from monitor.web.settings import WebSettings
from probes.sample import Outcome

PAYLOADS = (
    "<script>document.title='pwned'</script>", '"><img src=x onerror=alert(1)>', "</style><script>alert(1)</script>", "{{7*7}}{% raw %}",
    "javascript:alert(1)", "*<b onclick=x>bold</b>*", "&lt;script&gt;", "\u202egpj.exe", "a\x1b[2Jb", "'\"&<>", "x" * 200)


class _Tags(HTMLParser):
    """Every tag with its attributes' names, every address, and the text as a person reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(re.sub(r"<style>.*?</style>", "", page, count=1, flags=re.DOTALL))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {tag, *(f"{tag}@{name}" for name, _ in attrs)}
        self.links |= {value or "" for name, value in attrs if name in {"href", "src", "action", "srcdoc"}}

    def handle_data(self, data: str) -> None:
        self.text = " ".join(f"{self.text} {data}".split())


async def read(shop: Front, path: str) -> str:
    """A page's text, as a person reads it."""
    status, body, answer = await shop.ask(path)
    assert (status, answer.content_type) == (200, "text/html")
    return _Tags(body).text


async def sentence(shop: Front) -> str:
    """The first thing that `/` says."""
    _, body, _ = await shop.ask("/")
    first = re.search(r"<h1[^>]*>(.*?)</h1>", body)
    assert first
    return _Tags(first[1]).text.replace(" :", ":").replace(" ,", ",")


# ---- the state of the shop


async def test_without_data_it_says_so(shop: Front) -> None:
    shop.targets = [{"probe": "home", "device": "", "cohort": "", "critical": True, "control": False, "state": "unknown"}]
    assert await sentence(shop) == "No data yet: no probe has run since Tillwatch was started."
    text = await read(shop, "/")
    assert "Open incidents None." in text
    assert "home unknown critical · has not run yet" in text
    assert "There has been none yet." in text
    shop.targets = []
    assert await sentence(shop) == "No probe is configured: nothing is watched."


async def test_all_is_well(shop: Front) -> None:
    shop.targets = [target("home", critical=True), target("pay", device="phone")]
    assert await sentence(shop) == "All probes are well."
    text = await read(shop, "/")
    assert "pay phone up 12 s ago: ok, 125 ms" in text
    assert "Tillwatch itself Is well" in text
    assert "Refresh" not in (await shop.ask("/"))[2].headers
    shop.targets.append(target("new", "unknown", at=None))
    assert await sentence(shop) == "All other probes are well, 1 has not run yet."


@pytest.mark.parametrize(("state", "told"), [
    ("failing", "search: failing, not for long enough to be an outage."), ("broken", "search: cannot be measured just now."),
    ("down", "search: down.")])
async def test_a_probe_that_is_neither_well_nor_an_incident(shop: Front, state: str, told: str) -> None:
    shop.targets = [target("home"), target("search", state, outcome="failed", reason="status", evidence="HTTP 503")]
    assert (await sentence(shop)).replace("search :", "search:") == told
    assert "HTTP 503" in await read(shop, "/")
    assert (await shop.ask("/"))[2].headers["Refresh"] == "15"


async def test_what_a_run_that_was_well_has_to_say_is_shown(shop: Front) -> None:
    """Orders of a checkout that are left to be cancelled by hand, say."""
    shop.targets = [target("buy", evidence="orders to be cancelled by hand: 4711")]
    assert "orders to be cancelled by hand: 4711" in await read(shop, "/")


async def test_an_outage_is_told_as_its_page_tells_it(shop: Front) -> None:
    shop.targets = [target("home", "down", since=shop.clock.now() - 840, reason="status", evidence="HTTP 502 from nginx"), target("pay")]
    shop.means = {"home": "Customers cannot see the shop"}
    await outage(shop)
    first = await sentence(shop)
    assert first.startswith("Customers cannot see the shop since ")
    assert "failed 3 of 3" in first
    text = await read(shop, "/")
    assert "told, nobody has taken it" in text
    assert "Do first open https://shop.example from another network" in text
    assert "HTTP 502 from nginx" in text
    shop.casebook.apply([acknowledged(shop.casebook.open[0], "ann", shop.clock.now())], by="ann")
    await shop.casebook.settled()
    assert "taken by ann" in await read(shop, "/")


async def test_a_fault_of_its_own_is_not_the_shops(shop: Front) -> None:
    shop.targets = [target("home")]
    await own_fault(shop)
    assert await sentence(shop) == ("The shop has no open incident, but Tillwatch needs help. The disk that Tillwatch writes to is nearly full: "
                                    "soon it can keep nothing any more.")


async def test_when_it_is_not_healthy_it_says_what_is_wrong(shop: Front) -> None:
    shop.targets = [target("home")]
    shop.status |= {"healthy": False, "store": "cannot write: the disk is full"}
    assert await sentence(shop) == "Tillwatch itself is not well: store: cannot write: the disk is full."


async def test_the_state_is_told_from_memory_when_the_store_cannot_be_read(shop: Front) -> None:
    shop.targets = [target("home")]
    await outage(shop)
    shop.store.path.rename(shop.store.path.with_name("gone"))
    assert (await sentence(shop)).startswith("Customers cannot use home")
    assert "They cannot be read just now." in await read(shop, "/")
    status, body, _ = await shop.ask("/updates/newest")
    assert (status, body["code"]) == (503, "unavailable")
    answer = (await shop.ask("/updates/newest", headers={"Accept": "text/html"}))[2]
    assert (answer.status, answer.headers["Refresh"]) == (503, "15"), "whoever came by just then sees it come back"


async def test_what_is_well_is_folded_away_when_it_is_much(shop: Front) -> None:
    shop.targets = [target(f"page-{number}") for number in range(21)] + [target("pay", "failing")]
    assert "21 others that are well" in await read(shop, "/")
    shop.targets = shop.targets[1:]
    assert "others that are well" not in await read(shop, "/")


async def test_what_was_wrong_today_and_is_over(shop: Front) -> None:
    await outage(shop)
    shop.casebook.apply([Transition("resolved", replace(shop.casebook.open[0], resolved=shop.clock.now(), resolution="up again"))])
    await shop.casebook.settled()
    assert "Over within the last 24 hours Over: home failed" in await read(shop, "/")
    shop.clock.at += 2 * 86400
    assert "Over within" not in await read(shop, "/")


# ---- an update


@pytest.mark.parametrize(("values", "told"), [
    ({}, "Update 8.4.1 is being watched: no harm so far. Missing for a pass: pay: needs about 14 more checkouts."),
    ({"missing": ["pay: needs about 14 more checkouts", "a", "b"]},
     "Update 8.4.1 is being watched: no harm so far. Missing for a pass: pay: needs about 14 more checkouts, and 2 more."),
    ({"signals": [signal(n_after=0, evidence=None, threshold=None)]}, "Update 8.4.1 is being watched: nothing has been judged since it began."),
    ({"reason": "control_worse", "sentence": "*partner* got worse too: not this update."},
     "Update 8.4.1 is being watched. partner got worse too: not this update."),
    ({"status": Status.RECOVERING}, "Update 8.4.1 was rolled back: is the shop back to normal?"),
])
async def test_an_update_that_is_watched(shop: Front, values: dict[str, Any], told: str) -> None:
    shop.targets = [target("home")]
    await keep(shop, update(shop.clock.now(), **WATCHED | {
        "reason": "too_few_runs", "sentence": "No harm seen so far: 2 hours; missing: x.", "missing": ["pay: needs about 14 more checkouts"],
        "signals": [signal()]} | values))
    assert await sentence(shop) == told
    assert (await shop.ask("/"))[2].headers["Refresh"] == "15"
    assert "Missing for a pass pay: needs about 14 more checkouts" in await read(shop, "/updates/newest")


async def test_an_announced_downtime_is_told_until_something_is_judged(shop: Front) -> None:
    shop.targets = [target("home")]
    await shop.start("2.0", expect_downtime="5m")
    assert "is being watched: pages may fail until" in await sentence(shop)


async def test_an_update_tells_its_verdict_first_and_then_why(shop: Front) -> None:
    await keep(shop, update(shop.clock.now()), ("start", "ci", "friday, but urgent"), ("phase", "ci", "all"), ("regression", "judge", REGRESSION))
    text = await read(shop, "/updates/2026-09-21-1")
    assert text == await read(shop, "/updates/newest")
    assert "Missing for a pass" not in text, "nothing can make it pass any more"
    told = ("Update 8.4.1 This update made the shop worse. Some customers meet errors: pay failed 7 of 57", "under way, phase canary",
            "woocommerce 8.4.1, payment-gateway 3", "https://git.example/releases/8.4.1",
            "started by ci friday, but urgent", "moved to phase all by ci", "found worse by the judge",
            "Worse (2) pay · success", "0 of 288 failed", "7 of 57 failed", "the evidence has reached the threshold", "search · duration",
            "p50 312 ms, p95 610 ms (288)", "×2.38 (2.10 to 2.70)", "10 4.9 of 10 2.6", "Needed for a pass (3)", "home · success",
            "it varies too much", "basket · success", "not judged", "only 11 runs before the update", "cart · success", "40 runs are enough",
            "Others (40)", "Controls, which the update cannot touch (1)")
    at = 0
    for part in told:
        assert part in text[at:], part
        at = text.index(part, at)
    status, _, answer = await shop.ask("/api/v1/updates/2026-09-21-1/report")
    assert (status, answer.content_type) == (200, "text/html"), "where the page links to"


async def test_a_pass_is_said_once(shop: Front) -> None:
    await keep(shop, update(shop.clock.now(), verdict="pass", sentence="No harm seen in 2 hours, 24 checkouts.", missing=[], signals=[signal()]))
    assert "Update 8.4.1 No harm seen. In 2 hours, 24 checkouts. Stage" in await read(shop, "/updates/newest")


async def test_a_command_is_told_as_one(shop: Front) -> None:
    await keep(shop, update(shop.clock.now()))
    shop.casebook.apply(on_regression([], update(shop.clock.now()), "page", shop.clock.now(), lambda: "i1"))
    await shop.casebook.settled()
    assert "then say so: <code>tillwatch update rollback 2026-09-21-1</code>" in (await shop.ask("/"))[1]


async def test_the_live_verdict_is_shown_with_the_evidence_of_real_runs(shop: Front) -> None:
    start = shop.clock.now()
    for number in range(400):
        shop.store.add_sample(made(start - 30 * (400 - number), seconds=0.1 + number % 7 / 100))
    await shop.store.write(lambda _: None)
    facts = await shop.start("2.0")
    shop.clock.at += 4000
    for number in range(120):
        failed = {"outcome": Outcome.FAILED, "reason": "status"} if number % 2 else {}
        shop.store.add_sample(made(start + 300 + 30 * number, **failed))
    await shop.store.write(lambda _: None)
    await shop.watch.tick()
    await shop.casebook.settled()
    text = await read(shop, f"/updates/{facts['id']}")
    assert "This update made the shop worse. Some customers meet errors: home failed" in text
    assert "0 of 400 failed" in text
    assert "found worse by the judge" in text
    assert (await sentence(shop)).startswith("Some customers meet errors since")


async def test_why_a_signal_is_not_flagged_is_told_in_words(shop: Front) -> None:
    await keep(shop, update(shop.clock.now(), signals=[signal(why=name) for name in WHYS]))
    text = await read(shop, "/updates/newest")
    assert [words for words in WHYS.values() if words not in text] == []


async def test_few_other_signals_are_not_folded_and_many_are(shop: Front) -> None:
    for count, folded in ((20, False), (21, True)):
        await keep(shop, update(shop.clock.now(), signals=[slower(), *many(count)]))
        assert ("<details>" in (await shop.ask("/updates/newest"))[1]) is folded


async def test_an_update_that_is_over_stands_still_and_one_that_is_not_can_be_made_to(shop: Front) -> None:
    await keep(shop, update(shop.clock.now()))
    assert (await shop.ask("/updates/newest"))[2].headers["Refresh"] == "15"
    _, body, answer = await shop.ask("/updates/newest?refresh=off")
    assert "Refresh" not in answer.headers
    assert "stands still" in body
    await keep(shop, update(shop.clock.now(), status=Status.CLOSED, closed=1.0))
    assert "Refresh" not in (await shop.ask("/updates/newest"))[2].headers


async def test_what_an_older_version_stored_is_shown(shop: Front) -> None:
    old = [{name: value for name, value in signal().items() if name not in {"before_text", "after_text", "why"}}]
    await keep(shop, update(shop.clock.now(), signals=old, verdict="pass", reason="gone_reason"))
    assert "0 of 288 failed" in await read(shop, "/updates/newest")
    await keep(shop, update(shop.clock.now(), id="2", ruling={}, started=shop.clock.now(), verdict="inconclusive", status=Status.CANCELLED))
    text = await read(shop, "/updates/2")
    assert "Cancelled." in text
    assert "Nothing was judged." in text


# ---- words of a signal


@pytest.mark.parametrize(("values", "mark", "because"), [
    ({"guilty": True, "evidence": 2.4}, "worse", "the evidence has reached the threshold"),
    ({"guilty": True}, "worse", "its evidence reached the threshold, alone or with others"),
    ({"ruled_clean": True}, "clean", "40 runs are enough: harm of the size of the margin would have alarmed with 80 % probability"),
    ({}, "open", "harm could still hide: about 14 more runs needed"),
    ({"needed": 41}, "open", "harm could still hide: about 1 more run needed"),
    ({"needed": 40, "note": "3 runs in the warm-up not judged"}, "open",
     "it leans towards an alarm: the next runs decide; 3 runs in the warm-up not judged"),
    ({"needed": None}, "open", "it varies too much to rule harm out in time"),
    ({"control": True, "note": "control; drifts"}, "control",
     "the update cannot touch it: if it gets worse too, something else is the cause; drifts"),
    ({"evidence": None, "threshold": None, "note": "too short"}, "not judged", "too short"),
])
def test_why_a_signal_was_taken_so(values: dict[str, Any], mark: str, because: str) -> None:
    shown = signal(**values)
    assert (signal_words.mark(shown), signal_words.because(shown)) == (mark, because)


def test_sides_are_in_words_where_there_are_words_and_the_bar_stays_within_its_frame() -> None:
    assert signal_words.sides(signal(before_text="3 a minute", after_text="41 a minute")) == ("3 a minute (288)", "41 a minute (40)")
    assert signal_words.sides(signal(n_after=0, after_text="41 a minute")) == ("0 of 288 failed", "-")
    assert signal_words.sides(slower(n_before=12, before=None, before_p95=None))[0] == "12 runs", "too few to be measured by"
    assert [signal_words.share(signal(evidence=e)) for e in (-3.0, 1.2, 9.0, None)] == [0.0, 0.5, 1.0, 0.0]


# ---- nothing in them acts


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
async def test_foreign_text_stays_text(shop: Front, number: int) -> None:
    pages_of = []
    for text in ("harmless", PAYLOADS[number]):
        shown = signal(text, device=text, cohort=text, signal=text, note=text, before_text=text, after_text=text, guilty=True)
        await keep(shop, update(
            shop.clock.now(), version=text, by=text, phase=text, link=text, changes=(Changed(text, text),), sentence=text, missing=[text],
            reason=text, signals=[shown | {"why": text}], **WATCHED), ("start", text, text), (text, text, text))
        await log(shop, shop.clock.now() - 60, f"error:{text} [{text}]", example=text, probe=text)
        shop.targets = [target(text, "down", device=text, reason=text, evidence=text, outcome=text)]
        shop.status |= {"healthy": False, "store": text}
        shop.means = {text: text}
        await outage(shop, text, evidence=text)
        pages_of.append([(await shop.ask(path))[1] for path in ("/", "/updates/newest")])
    for harmless, page in zip(*pages_of, strict=True):
        plain, found = _Tags(harmless), _Tags(page)
        assert found.tags <= plain.tags | {"b", "br"}
        assert all(link.startswith(("/", "?", "data:image/svg+xml,%3Csvg")) for link in found.links), found.links
        assert "49" not in re.findall(r"\b49\b", found.text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


async def test_a_link_is_one_only_when_it_leads_into_the_web(shop: Front) -> None:
    for link, linked in (("https://git.example/r?a=1&b=2", True), ("http://git.example", True), ("javascript:alert(1)", False),
                         ("data:text/html,x", False), (" https://x", False), ("//evil.example", False)):
        await keep(shop, update(shop.clock.now(), link=link))
        found = _Tags((await shop.ask("/updates/newest"))[1])
        assert (link in found.links) is linked, link
        assert link.strip() in found.text


async def test_nothing_but_its_own_style_may_load(shop: Front) -> None:
    await keep(shop, update(shop.clock.now()))
    for path in ("/", "/updates/newest"):
        _, body, answer = await shop.ask(path)
        style = re.search(r"<style>(.*?)</style>", body, re.DOTALL)
        assert style
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert answer.headers["Content-Security-Policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
        assert (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"]) == ("nosniff", "no-store")
        tags = _Tags(body).tags
        assert not tags & {"script", "form", "input", "button", "iframe", "meta@http-equiv"}
        assert not [tag for tag in tags if "@style" in tag or "@on" in tag]


# ---- who may


def basic(token: str, name: str = "ann") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()}


async def test_beyond_loopback_a_browser_asks_for_the_token(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    web = WebSettings.model_validate({"listen": "127.0.0.1:0", "tls": {"cert_file": "both.pem", "key_file": "both.pem"}}, context={"base": tmp_path})
    async with front(tmp_path, web, ssl=False) as shop:
        await keep(shop, update(shop.clock.now()))
        await outage(shop)
        for path in ("/", "/updates/newest", "/incidents/i-home", "/api/v1/updates/newest/report"):
            status, body, answer = await shop.ask(path, headers={"Accept": "text/html"})
            assert (status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="Tillwatch", charset="UTF-8"'), path
            assert "till" not in str(body).replace("tillwatch", ""), "whose shop it is, is not for everybody"
            assert (await shop.ask(path, headers=basic("wrong-0123456789")))[0] in {401, 429}, path
            for headers in (basic(TOKENS["reader"]), basic(TOKENS["ci"], "x"), {"Authorization": f"Bearer {TOKENS['boss']}"}):
                assert (await shop.ask(path, headers=headers))[0] == 200, path
        for strange in ("Basic", "Basic %%%", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Basic " + base64.b64encode(b"no colon").decode()):
            assert (await shop.ask("/", headers={"Authorization": strange}))[0] == 401, strange
        assert (await shop.ask("/api/v1/probes", headers=basic(TOKENS["reader"])))[0] == 401, "programs send it as a bearer"


async def test_a_password_in_a_browser_changes_nothing(shop: Front) -> None:
    """A browser sends it by itself, also when another site's page asks for a change."""
    for path in ("/api/v1/updates", "/-/reload"):
        assert (await shop.ask(path, method="POST", headers=basic(TOKENS["boss"]), json={"version": "2"}))[0] == 401
    for path in ("/", "/updates/newest"):
        assert (await shop.ask(path, method="POST", token="boss"))[0] == 405


async def test_what_does_not_exist_is_a_page_for_people_and_a_problem_for_programs(shop: Front) -> None:
    status, body, answer = await shop.ask("/updates/newest", headers={"Accept": "text/html,*/*"})
    assert (status, answer.content_type) == (404, "text/html")
    assert "There has been no update yet." in body
    status, body, answer = await shop.ask("/updates/<b>", headers={"Accept": "text/html"})
    assert (status, "<b>" in body) == (404, False)
    status, body, answer = await shop.ask("/updates/nothing")
    assert (status, body["code"], answer.content_type) == (404, "not_found", "application/problem+json")


# ---- cheap


async def test_two_hundred_signals_do_not_hold_the_event_loop_up(shop: Front) -> None:
    """CPU of the event loop's own thread, with the client's share. Measured: 1 ms; on the loop it would be 10 and 13."""
    shop.targets = [target(f"p-{number}") for number in range(50)]
    for number in range(10):
        await keep(shop, update(shop.clock.now() - number, id=f"2026-09-21-{number}", signals=[slower(), *many(199)]))
    for path in ("/", "/updates/newest"):
        took = []
        for _ in range(8):
            begun = time.thread_time()
            assert (await shop.ask(path))[0] == 200
            took.append(time.thread_time() - begun)
        assert min(took) < 0.005, path


def test_a_daemon_whose_pages_nobody_opens_does_not_load_jinja() -> None:
    code = "import sys, monitor.app; print(*({'jinja2', 'markupsafe'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []


async def test_many_readers_at_once_get_whole_pages(shop: Front) -> None:
    await keep(shop, update(shop.clock.now()))
    answers = await asyncio.gather(*(shop.ask("/updates/newest") for _ in range(20)))
    assert {(status, body) for status, body, _ in answers} == {(200, answers[0][1])}
    assert answers[0][1].rstrip().endswith("</html>")


def test_templates_travel_with_the_code() -> None:
    """hatch takes every file below monitor/ into the wheel; nothing here is left out by .gitignore."""
    folder = Path(pages.__file__).with_name("templates")
    assert {path.name for path in folder.iterdir()} >= {"layout.html", "now.html", "parts.html", "problem.html", "style.css", "update.html"}
