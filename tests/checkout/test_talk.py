"""What the daemon's end makes of what a worker says."""

import asyncio
import socket
from typing import Any

import pytest

from probes.checkout import frames
from probes.checkout.job import Report
from probes.checkout.talk import Talk

SAID = Report("timeout", "the flow was not over after 20 s", orders=["KL-1"], submitted=True)
BROKE = Report("browser", "it was told to stop", worn=True)


async def heard(*messages: dict[str, Any]) -> Report:
    """The report of a run in which the worker said this."""
    async def ask() -> str:
        return ""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"".join(map(frames.encode, messages)))
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            return await Talk(lambda _: None, ask).until_done(reader, writer)
        finally:
            writer.close()


def said(report: Report) -> dict[str, Any]:
    return {"t": "report", "report": report.to_dict()}


def done(report: Report) -> dict[str, Any]:
    return {"t": "done", "report": report.to_dict(), "memory": 1}


async def test_a_browser_that_broke_off_over_its_evidence_changes_no_verdict() -> None:
    """On a busy machine what comes after the flow takes so long that the worker is told to stop."""
    found = await heard({"t": "begun"}, said(SAID), done(BROKE))
    assert (found.reason, found.evidence, found.orders, found.submitted, found.worn) == ("timeout", SAID.evidence, ["KL-1"], True, True)


async def test_the_last_report_holds_where_the_browser_did_not_break_off() -> None:
    """By then the orders are cancelled."""
    ended = Report("timeout", "the flow was not over after 20 s", cancelled=["KL-1"], submitted=True)
    assert await heard(said(SAID), done(ended)) == ended
    ill = Report("browser", "the page crashed", orders=["KL-1"])
    well = Report("browser", "the page crashed")
    assert await heard(said(ill), done(well)) == well


async def test_who_may_submit_has_submitted_whatever_is_reported() -> None:
    async def ask() -> str:
        theirs.sendall(frames.encode(done(BROKE)))
        return ""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(frames.encode({"t": "guard"}))
        reader, writer = await asyncio.open_connection(sock=ours)
        found = await Talk(lambda _: None, ask).until_done(reader, writer)
        writer.close()
    assert (found.reason, found.submitted) == ("browser", True)


@pytest.mark.parametrize("report", [{}, {**SAID.to_dict(), "reason": "nonsense"}, {**SAID.to_dict(), "cancelled": [7]}])
async def test_a_report_that_is_none_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(frames.FrameError):
        await heard({"t": "done", "report": report, "memory": 1})
