"""The checkpoint of a log probe: where it goes on, and which signatures it knows."""

from hypothesis import given
from hypothesis import strategies as st

from probes.error_log.memory import MOST_KNOWN, Memory


def test_the_place_and_what_is_known_come_back() -> None:
    memory = Memory(b"place \x00 42")
    assert memory.learn(["error:a", "warning:b"]) == ["error:a", "warning:b"]
    back = Memory.decode(memory.encode())
    assert back.place == b"place \x00 42"
    assert back.learn(["error:a", "error:c"]) == ["error:c"]


def test_a_probe_that_has_read_nothing_has_no_place() -> None:
    assert Memory.decode(None).place is None
    assert Memory.decode(Memory().encode()).place is None


def test_the_signatures_seen_last_are_kept() -> None:
    memory = Memory()
    memory.learn(f"error:{number}" for number in range(MOST_KNOWN))
    memory.learn(["error:0"])                      # seen again
    memory.learn(["error:new"])                    # one too many: the longest unseen goes
    back = Memory.decode(memory.encode())
    assert back.learn(["error:0", "error:new"]) == []
    assert back.learn(["error:1"]) == ["error:1"]


@given(st.binary(max_size=200))
def test_what_nobody_wrote_is_an_empty_memory_or_a_place(garbage: bytes) -> None:
    memory = Memory.decode(garbage)
    assert len(memory.known) * 6 + len(memory.place or b"") <= max(len(garbage), 1)


def test_a_checkpoint_cut_off_in_the_middle_knows_nothing() -> None:
    memory = Memory(b"place")
    memory.learn(["error:a"] * 3 + ["error:b"])
    assert Memory.decode(memory.encode()[:12]) == Memory()
