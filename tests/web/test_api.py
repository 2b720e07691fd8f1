"""Every endpoint, and every way in which it can refuse."""

import asyncio
import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trustme
from shopfront import HOME, TOKENS, Front, front, made

from monitor.health import Flip, State
from monitor.incidents import Context, on_flip
from monitor.updates import Changed
from monitor.web import server
from monitor.web.auth import local_token
from monitor.web.settings import WebSettings

UPDATES = "/api/v1/updates"


def is_problem(body: Any, status: int, code: str) -> bool:
    assert body["status"] == status, body
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert body["type"] == "about:blank"
    assert body["detail"]
    return body["code"] == code


# ---- reading


@pytest.mark.parametrize(("path", "key"), [("/-/healthy", "healthy"), ("/-/ready", "ready")])
async def test_health_is_200_or_503(shop: Front, path: str, key: str) -> None:
    assert (await shop.ask(path))[:2] == (200, shop.status)
    shop.status[key] = False
    assert (await shop.ask(path))[0] == 503


async def test_probes_are_listed(shop: Front) -> None:
    assert (await shop.ask("/api/v1/probes"))[:2] == (200, {"probes": shop.targets})


async def test_samples_are_given_newest_first(shop: Front) -> None:
    now = shop.clock.now()
    for number in range(5):
        shop.store.add_sample(made(now - 100 + number, probe="home" if number % 2 else "pay", values={"tls": 0.5}, evidence="e"))
    await shop.store.write(lambda _: None)
    _, body, _ = await shop.ask("/api/v1/samples?probe=pay&limit=2")
    assert [(s["probe"], s["started"]) for s in body["samples"]] == [("pay", now - 96), ("pay", now - 98)]
    assert body["samples"][0]["values"] == {"tls": 0.5}
    assert len((await shop.ask("/api/v1/samples"))[1]["samples"]) == 5


@pytest.mark.parametrize("limit", ["0", "-1", "x", "²", "٣", "10001", "1" * 5000, "000000001" + "9" * 5000, ""])
async def test_a_limit_that_is_none_is_refused(shop: Front, limit: str) -> None:
    status, body, _ = await shop.ask("/api/v1/samples", params={"limit": limit})
    assert is_problem(body, status, "invalid")
    assert status == 400


async def test_incidents_and_their_steps_are_shown(shop: Front) -> None:
    now = shop.clock.now()
    flip = Flip(*HOME, State.UP, State.DOWN, "status", now, now - 60, 3, 3)
    shop.casebook.apply(on_flip([], flip, Context(host="shop"), lambda: "i1"), flip=flip)
    await shop.casebook.settled()
    assert [i["id"] for i in (await shop.ask("/api/v1/incidents?open=true"))[1]["incidents"]] == ["i1"]
    _, body, _ = await shop.ask("/api/v1/incidents/i1")
    assert (body["kind"], body["members"][0]["probe"], [s["what"] for s in body["steps"]]) == ("outage", "home", ["firing"])
    assert (await shop.ask("/incidents/i1"))[1] == body
    well = Flip(*HOME, State.DOWN, State.UP, "", now + 60, now)
    shop.casebook.apply(on_flip(shop.casebook.open, well, Context(), lambda: "i2"))
    await shop.casebook.settled()
    assert (await shop.ask("/api/v1/incidents?open=true"))[1] == {"incidents": []}
    assert (await shop.ask("/api/v1/incidents"))[1]["incidents"][0]["resolved"] == now + 60
    status, body, _ = await shop.ask("/api/v1/incidents/nobody")
    assert is_problem(body, status, "not_found")


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(shop: Front) -> None:
    status, body, _ = await shop.ask("/api/v1/nothing")
    assert is_problem(body, status, "not_found")
    status, body, answer = await shop.ask("/api/v1/probes", method="DELETE")
    assert is_problem(body, status, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]
    assert answer.content_type == "application/problem+json"


async def test_a_store_that_cannot_read_is_a_problem_and_no_crash(shop: Front) -> None:
    shop.store.path.rename(shop.store.path.with_name("gone"))
    status, body, _ = await shop.ask("/api/v1/incidents")
    assert is_problem(body, status, "unavailable")
    assert status == 503


async def test_every_answer_is_marked_as_not_to_be_sniffed_or_kept(shop: Front) -> None:
    for path in ("/api/v1/probes", "/api/v1/nothing", "/-/healthy"):
        headers = (await shop.ask(path))[2].headers
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


# ---- the life of an update


async def test_an_update_is_started_moved_on_and_shown(shop: Front) -> None:
    sent = {"version": "2.0", "phase": "canary", "changes": [{"name": "kettle", "version": "2"}, {"name": "theme"}], "expect_downtime": "5m",
            "link": "https://shop.example/r/2", "override": "friday, but urgent"}
    status, facts, answer = await shop.ask(UPDATES, method="POST", token="ci", json=sent)
    id_ = facts["id"]
    assert (status, answer.headers["Location"]) == (201, f"{UPDATES}/{id_}")
    assert {k: facts[k] for k in ("version", "phase", "status", "verdict", "by", "link")} == {
        "version": "2.0", "phase": "canary", "status": "open", "verdict": "watching", "by": "ci", "link": "https://shop.example/r/2"}
    assert facts["changes"] == [{"name": "kettle", "version": "2"}, {"name": "theme", "version": ""}]
    assert facts["downtime_until"] == shop.clock.now() + 300
    shop.clock.at += 60
    assert (await shop.act(id_, "phase", name="all"))[1]["phase"] == "all"
    assert (await shop.act("newest", "finish"))[1]["status"] == "observing"
    assert (await shop.act(id_, "rollback"))[1]["status"] == "recovering"
    _, body, _ = await shop.ask(f"{UPDATES}/{id_}")
    assert [(a["act"], a["by"], a["detail"]) for a in body["acts"]] == [
        ("start", "ci", "friday, but urgent"), ("phase", "ci", "all"), ("finish", "ci", ""), ("rollback", "ci", "")]
    assert [u["id"] for u in (await shop.ask(UPDATES))[1]["updates"]] == [id_]


async def test_the_verdict_is_always_200_once_there_is_an_update(shop: Front) -> None:
    status, body, _ = await shop.ask(f"{UPDATES}/newest/verdict")
    assert is_problem(body, status, "not_found")
    facts = await shop.start()
    status, body, _ = await shop.ask(f"{UPDATES}/newest/verdict")
    assert (status, body["verdict"], body["pass"], body["id"], body["status"]) == (200, "watching", None, facts["id"], "open")
    assert body["decided_by"] == shop.clock.now() + 7200 + 120 + 7200
    await shop.act("newest", "cancel")
    assert (await shop.ask(f"{UPDATES}/newest/verdict"))[1]["status"] == "cancelled"


async def test_the_report_is_html_or_markdown_and_can_run_nothing(shop: Front) -> None:
    facts = await shop.start("<script>alert(1)</script> [x](javascript:1) | `", changes=[{"name": "<img src=x onerror=1>"}])
    status, body, answer = await shop.ask(f"{UPDATES}/{facts['id']}/report")
    assert (status, answer.content_type) == (200, "text/html")
    assert "<script" not in body
    assert "<img" not in body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    status, body, answer = await shop.ask(f"{UPDATES}/newest/report?format=md")
    assert (status, answer.content_type) == (200, "text/markdown")
    assert "<script" not in body.replace(r"\<", "")
    assert r"\[x\]\(javascript:1\) \| \`" in body


async def test_a_second_start_is_refused_while_one_is_open(shop: Front) -> None:
    facts = await shop.start()
    status, body, _ = await shop.ask(UPDATES, method="POST", token="ci", json={"version": "3"})
    assert is_problem(body, status, "wrong_phase")
    assert (status, facts["id"] in body["detail"]) == (409, True)


async def test_acts_that_do_not_fit_the_phase_are_409_and_unknown_updates_404(shop: Front) -> None:
    for act in ("finish", "rollback", "cancel", "phase"):
        status, body = await shop.act("newest", act, **({"name": "all"} if act == "phase" else {}))
        assert is_problem(body, status, "not_found")
    await shop.start()
    await shop.act("newest", "finish")
    for act in ("finish", "cancel", "phase"):
        status, body = await shop.act("newest", act, **({"name": "x"} if act == "phase" else {}))
        assert is_problem(body, status, "wrong_phase")
    assert (await shop.act("newest", "explode"))[0] == 404


async def test_an_update_is_found_and_numbered_however_many_came_after_it(shop: Front) -> None:
    first = await shop.start()
    await shop.act(first["id"], "cancel")
    day = first["id"].rpartition("-")[0]

    def many(connection: sqlite3.Connection) -> None:
        stored = json.loads(connection.execute("SELECT facts FROM shop_update").fetchone()[0])
        for number in range(2, 131):
            row = stored | {"id": f"{day}-{number}", "started": stored["started"] + number}
            connection.execute("INSERT INTO shop_update VALUES (?, ?, ?, ?)", (row["id"], row["started"], row["status"], json.dumps(row)))
    await shop.store.write(many)
    status, body, _ = await shop.ask(f"{UPDATES}/{first['id']}")
    assert (status, body["id"]) == (200, first["id"])
    shop.clock.at += 1000
    assert (await shop.start())["id"] == f"{day}-131"
    assert Changed("kettle").version == ""


# ---- bodies


async def test_all_that_is_wrong_with_a_body_is_said_at_once(shop: Front) -> None:
    sent = {"version": "", "phse": "x", "changes": [{"nme": "kettle"}], "expect_downtime": "5 minutes", "link": "javascript:alert(1)"}
    status, body, _ = await shop.ask(UPDATES, method="POST", token="ci", json=sent)
    assert is_problem(body, status, "invalid")
    assert sorted(p["path"] for p in body["problems"]) == ["changes.0.name", "changes.0.nme", "expect_downtime", "link", "phse", "version"]
    assert all(p["path"] in body["detail"] and p["message"] in body["detail"] for p in body["problems"])
    assert "https?" not in body["detail"]
    assert (await shop.ask(UPDATES))[1] == {"updates": []}


@pytest.mark.parametrize("body", [
    b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 50_000, b'{"version": ' + b"1" * 5000 + b"}", b'{"version": 2}',
    b'{"version": "\\ud800"}', b"NaN",
])
async def test_a_body_that_is_not_what_is_asked_for_is_400(shop: Front, body: bytes) -> None:
    status, answer, _ = await shop.ask(UPDATES, method="POST", token="ci", data=body)
    assert is_problem(answer, status, "invalid")
    assert status == 400


async def test_a_charset_that_does_not_exist_is_400(shop: Front) -> None:
    headers = {"Content-Type": "application/json; charset=klingon"}
    assert (await shop.ask(UPDATES, method="POST", token="ci", data=b"{}", headers=headers))[0] == 400


async def test_a_body_that_is_too_large_is_413_also_when_it_is_packed(shop: Front) -> None:
    large = b'{"version": "' + b"x" * (server.BODY_LIMIT + 1)
    status, body, _ = await shop.ask(UPDATES, method="POST", token="ci", data=large)
    assert is_problem(body, status, "too_large")
    packed = gzip.compress(b" " * 20_000_000)
    assert len(packed) < server.BODY_LIMIT
    status, _, _ = await shop.ask(UPDATES, method="POST", token="ci", data=packed, headers={"Content-Encoding": "gzip"})
    assert status in {413, 415}


# ---- who may


@pytest.mark.parametrize("token", ["", "wrong", TOKENS["ci"][:-1], TOKENS["ci"] + "0", "x" * 6000])
async def test_without_a_token_that_is_known_nothing_changes(shop: Front, token: str) -> None:
    status, body, answer = await shop.ask(UPDATES, method="POST", token=token, json={"version": "2"})
    assert is_problem(body, status, "not_authorised")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await shop.ask(UPDATES))[1] == {"updates": []}
    assert TOKENS["ci"][:-1] not in json.dumps(body)


async def test_a_token_of_another_scope_is_403(shop: Front) -> None:
    status, body, _ = await shop.ask(UPDATES, method="POST", token="reader", json={"version": "2"})
    assert is_problem(body, status, "forbidden")
    assert '"reader" lacks the scope "update"' in body["detail"]


@pytest.mark.parametrize("header", [b"Basic " + TOKENS["ci"].encode(), b"Bearer", b"Bearer \xff\xfe", "Bearer ключ".encode(), b""])
async def test_a_strange_authorization_header_is_401(shop: Front, header: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(shop.url.rpartition(":")[2]))
    head = b"POST /api/v1/updates HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\nAuthorization: "
    writer.write(head + header + b"\r\n\r\n{}")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_the_token_of_this_host_and_an_admin_may_do_all(shop: Front) -> None:
    facts = (await shop.ask(UPDATES, method="POST", token=shop.local, json={"version": "2"}))[1]
    assert facts["by"] == "local admin"
    assert (await shop.ask(f"{UPDATES}/newest/cancel", method="POST", token="boss"))[1]["status"] == "cancelled"


async def test_a_body_is_not_looked_at_before_the_token(shop: Front) -> None:
    assert (await shop.ask(UPDATES, method="POST", data=b"{"))[0] == 401


async def test_reading_needs_a_token_where_others_can_reach_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    web = WebSettings.model_validate({"listen": "127.0.0.1:0", "tls": {"cert_file": "both.pem", "key_file": "both.pem"}}, context={"base": tmp_path})
    async with front(tmp_path, web, ssl=False) as shop:
        for path in ("/api/v1/probes", "/api/v1/samples", "/api/v1/incidents", "/api/v1/incidents/x", UPDATES, f"{UPDATES}/x", f"{UPDATES}/x/verdict",
                     f"{UPDATES}/x/report", "/updates/x", "/incidents/x"):
            assert (await shop.ask(path))[0] == 401, path
            assert (await shop.ask(path, token="wrong"))[0] == 401, path
            for token in ("reader", "ci", "boss"):        # whoever may do anything may also read
                assert (await shop.ask(path, token=token))[0] in {200, 404}, path
        assert (await shop.ask("/-/healthy"))[0] == 200


def test_the_token_file_is_private_and_made_once(tmp_path: Path) -> None:
    token = local_token(tmp_path)
    assert len(token) >= 43
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert local_token(tmp_path) == token
    assert [p.name for p in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize("held", [b"", b"\n", b"too-short\n", b"\xff" * 40, b"two lines of\nsomething else here\n"])
def test_what_is_no_token_is_made_anew(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(held)
    path.with_suffix(".new").write_text("left over from a crash, and others can read it")
    token = local_token(tmp_path)
    assert len(token) >= 43
    assert path.read_text() == token + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert local_token(tmp_path) == token


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:9464", 200), ("localhost", 200), ("[::1]:1", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)])
async def test_a_name_that_somebody_elses_dns_leads_here_is_not_served(shop: Front, host: str, status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(shop.url.rpartition(":")[2]))
    writer.write(f"GET /api/v1/probes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


# ---- another configuration


async def test_a_reload_needs_the_scope_admin_and_says_what_changed_or_all_that_is_wrong(shop: Front) -> None:
    assert (await shop.ask("/-/reload", method="POST"))[0] == 401
    assert (await shop.ask("/-/reload", method="POST", token="ci"))[0] == 403
    assert (await shop.ask("/-/reload", token="boss"))[0] == 405
    shop.taken = True, {"added": ['probe "pay"'], "removed": [], "changed": ["[update]"]}
    assert (await shop.ask("/-/reload", method="POST", token="boss"))[:2] == (200, shop.taken[1])
    problems = [{"file": "config.toml", "line": 3, "path": "shop.nam", "message": "unknown key"}]
    shop.taken = False, {"detail": "not taken", "problems": problems}
    status, body, answer = await shop.ask("/-/reload", method="POST", token="boss")
    assert (status, answer.content_type, body["detail"], body["problems"]) == (422, "application/problem+json", "not taken", problems)
