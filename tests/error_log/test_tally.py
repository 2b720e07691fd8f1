"""What a run has counted, by name."""

from probes.error_log.tally import MOST_SIGNATURES, Known, Tally


def test_the_counts_of_nothing_are_there() -> None:
    assert Tally().counts() == {"lines": 0, "events/critical": 0, "events/error": 0, "events/warning": 0}


def test_events_by_level_and_signature() -> None:
    tally = Tally(lines=9)
    for known in (Known("error", "error:a", "a 1"), Known("error", "error:a", "a 2"), Known("critical", "critical:b", "b")):
        tally.add(known)
    assert tally.counts() == {
        "lines": 9, "events/critical": 1, "events/error": 2, "events/warning": 0, "signature/error:a": 2, "signature/critical:b": 1}
    assert tally.example("error:a") == "a 1"
    assert tally.example("error:never") == ""


def test_more_signatures_than_that_are_counted_together() -> None:
    tally = Tally()
    most = MOST_SIGNATURES["error"]
    for number in range(most + 50):
        tally.add(Known("error", f"error:{number}", "x"))
    for _ in range(3):
        tally.add(Known("critical", "critical:late", "x"))               # a flood of others leaves room for it
        tally.add(Known("error", "error:1", "x"))
    counts = tally.counts()
    assert counts["signature/error:(others)"] == 50
    assert counts["signature/critical:late"] == 3
    assert counts["signature/error:1"] == 4
    assert counts["events/error"] == most + 53
    assert len([name for name in counts if name.startswith("signature/")]) == most + 2
    assert "error:(others)" not in tally.texts


def test_examples_are_scrubbed_and_short() -> None:
    tally = Tally()
    tally.add(Known("error", "error:a", "login of anna@example.org failed, password=hunter2secret from 192.0.2.7 " + "x" * 2000))
    example = tally.example("error:a")
    assert len(example) <= 400
    assert not any(secret in example for secret in ("anna@example.org", "hunter2secret", "192.0.2.7"))


def test_requests_only_where_an_access_log_was_read() -> None:
    tally = Tally()
    tally.requests["cart"] += 3
    tally.server_errors["cart"] += 1
    counts = tally.counts()
    assert (counts["requests"], counts["requests/cart"], counts["server_errors/cart"], counts["checkout_posts"]) == (3, 3, 1, 0)
    assert "slow" not in counts
    tally.timed = True
    assert (tally.counts()["slow"], tally.counts()["slow/cart"]) == (0, 0)
