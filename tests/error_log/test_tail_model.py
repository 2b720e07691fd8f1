"""Whatever happens to a log, in whatever order: no line twice, and none missing that was there to be read."""

import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tail_model import TICK, ModelLog
from tail_scene import Follower

STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from([1, 3, 40])),
    st.tuples(st.sampled_from(["read", "read", "discard", "restart", "half", "copy", "truncate", "replace", "slice"]), st.just(0)),
    st.tuples(st.just("rename"), st.sampled_from(["create", "create", "nocreate"])),
    st.tuples(st.just("compress"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.sampled_from([2, 6, 31])),
)


@pytest.mark.timeout(300)                     # most of its time it sleeps
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=30), st.booleans(), st.booleans())
@example([("append", 3), ("read", 0), ("append", 3), ("rename", "create"), ("append", 3), ("rename", "create"), ("compress", 2)], False, False)
def test_no_line_twice_and_none_missing(steps: list[tuple[str, object]], wide: bool, events: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder), steps, wide=wide, events=events)


def play(folder: Path, steps: list[tuple[str, object]], *, wide: bool, events: bool) -> None:
    """One history of a log, with everything that is promised about it."""
    log = ModelLog(folder)
    follower = Follower(f"{log.path}*" if wide else log.path, events=events)
    follower.read()
    for step, how in steps:
        if follower.ahead:
            time.sleep(TICK)                    # its clock does not tell it that times are too near to be told apart
        match step:
            case "read":
                follower.read()
            case "discard":
                follower.read(keep=False)
            case "slice":
                follower.read(more=lambda: False)
            case "restart":
                follower.restart()
            case "wait":
                follower.ahead += float(str(how))
                follower.read()
            case "rename" if wide:
                log.rename("create")            # else a log could come, be rotated and compressed before anybody looks for files
            case "append" | "rename" | "compress":
                getattr(log, step)(how)
            case _:
                getattr(log, step)()
    follower.ahead += 6
    follower.settle()
    found = Counter(line for piece in follower.lines for line in piece.splitlines())
    follower.tail.close()
    assert not {line: number for line, number in found.items() if number > 1}
    assert not log.must - set(found)
