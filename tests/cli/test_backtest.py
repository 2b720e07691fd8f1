"""`tillwatch backtest` on a store that the real Store has written, and on CSV files."""

import asyncio
import contextlib
import gzip
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from street import Done, command, environment, stop, until

from monitor.cli import main
from monitor.incidents import Incident, Member
from monitor.store import Store, records
from monitor.updates import Status, Update
from probes.sample import Outcome, Sample, Trigger

START, SPACING = 1_760_000_000.0, 30.0
CONFIG = """
[shop]
name = "kettle"
url = "https://shop.example"
[[probe]]
name = "home"
kind = "http"
url = "https://shop.example/"
critical = true
[[probe]]
name = "blog"
kind = "http"
url = "https://shop.example/blog"
[update]
observe = "30m"
margin = { success = 0.25, p50 = 0.25 }
"""
NOT_JUDGED = ((Outcome.FAILED, Trigger.RECHECK), (Outcome.FAILED, Trigger.MANUAL), (Outcome.BROKEN, Trigger.SCHEDULED))
Here = Callable[..., Done]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    """The command in this process, in an empty folder, with one process of its own."""
    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tillwatch", *words, "--jobs", "1"])
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("TILLWATCH_CONFIG", raising=False)
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)
    return run


def samples(probe: str, count: int, seed: int, **how: object) -> list[Sample]:
    """Log-normal durations at the regular pace, among them what is not judged: rechecks, runs by hand, broken ones."""
    rng, found = random.Random(seed), []
    for place in range(count):
        at, seconds = START + place * SPACING, rng.lognormvariate(-2, 0.15)
        found.append(Sample(probe, Outcome.OK, seconds=seconds, started=at, ended=at + seconds, spacing=SPACING, **how))
        if place % 50 == 7:
            found += [Sample(probe, outcome, "timeout", seconds=9.0, started=at + 10, ended=at + 19, trigger=trigger, spacing=SPACING)
                      for outcome, trigger in NOT_JUDGED]
    return found


def stored(directory: Path, found: Iterable[Sample], incidents: Iterable[Incident] = (), updates: Iterable[Update] = ()) -> Path:
    """A configuration whose store holds all this."""
    path = directory / "config.toml"
    path.touch(mode=0o600)
    path.write_text(CONFIG)
    (directory / "state").mkdir()

    async def fill() -> None:
        async with Store(directory / "state") as store:
            for sample in sorted(found, key=lambda sample: sample.ended):
                store.add_sample(sample)
            for incident in incidents:
                await store.write(lambda c, incident=incident: records.save_incident(c, incident, incident.opened, "firing"))
            for update in updates:
                await store.write(lambda c, update=update: records.save_update(c, update))
            await store.write(lambda _: None)
    asyncio.run(fill())
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 runs of two probes; an outage of the first, and a real update."""
    down = Incident("01", "outage", "shop", "page", START + 200 * SPACING, START + 200 * SPACING, resolved=START + 230 * SPACING,
                    members=(Member("home", "", "", "timeout", START + 200 * SPACING, 3, 5, "page", recovered=START + 230 * SPACING),))
    real = Update("2025-10-09-1", "2.0", START + 500 * SPACING, "ci", status=Status.CLOSED, closed=START + 540 * SPACING)
    return stored(tmp_path_factory.mktemp("shop"), [*samples("home", 700, 1), *samples("blog", 700, 2)], [down], [real])


def test_the_store_is_replayed_as_json(shop: Path, here: Here) -> None:
    done = here("-c", str(shop), "backtest", "--json")
    assert (done.code, done.err) == (0, "")
    facts = done.json
    assert (facts["probes"], facts["harmed_probes"], facts["left_out"]) == (["home", "blog"], ["home"], [])
    assert facts["runs"] == 1400
    assert facts["skipped"]["update"] >= 1
    assert facts["disturbed"]["of"] >= 1
    assert facts["regressions"]["hits"] == 0
    assert facts["regressions"]["of"] + facts["disturbed"]["of"] == facts["updates"]
    assert 0 < facts["regressions"]["upper"] <= 1
    assert facts["passes"]["median_seconds_after_finish"] > 0
    assert facts["weeks"] * facts["updates_per_week"] == pytest.approx(1)
    harms = {one["harm"]: one for one in facts["harms"]}
    assert harms.keys() == {"x1.2", "x1.5", "x2", "x3", "fail5", "fail20", "outage", "tail"}
    assert harms["outage"]["found"]["share"] == 1.0
    assert harms["outage"]["median_seconds"] < 300
    assert harms["x3"]["outage_paged"]["hits"] == 0
    assert facts["from"].startswith("2025-10-09T")
    assert all(isinstance(sentence, str) for sentence in facts["sentences"])


def test_people_are_told_in_words_first(shop: Path, here: Here) -> None:
    done = here("-c", str(shop), "backtest")
    assert done.code == 0, done.err
    first, second, *rest = done.out.splitlines()
    assert first.startswith("None of ")
    assert "harmless updates would have paged as a regression: at most " in first
    assert second.startswith("To show the promised 1 of 100, 380 updates")
    assert any(line.startswith("three times as slow") and "100 %" in line for line in rest)
    assert any("harm was put into: home" in line for line in rest)
    assert "\x1b" not in done.out


def test_the_same_history_gives_the_same_answer_in_one_process_and_in_two(shop: Path, here: Here) -> None:
    one = here("-c", str(shop), "backtest", "--json", "--updates", "3")
    two = subprocess.run(command("-c", str(shop), "backtest", "--json", "--updates", "3", "--jobs", "2"),
                         capture_output=True, text=True, timeout=60, check=True, env=environment())
    assert one.json == json.loads(two.stdout)
    assert one.json["updates"] == 3
    assert two.stderr == ""


def test_days_shorten_the_history(shop: Path, here: Here) -> None:
    whole, part = (here("-c", str(shop), "backtest", "--json", *words).json for words in ((), ("--days", "0.15")))
    assert part["runs"] < whole["runs"]
    assert part["until"] == whole["until"]
    assert part["from"] > whole["from"]


def test_too_little_history_is_4_and_says_how_much_is_missing(here: Here, tmp_path: Path) -> None:
    path = stored(tmp_path, samples("home", 60, 1))
    done = here("-c", str(path), "backtest")
    assert (done.code, done.out) == (4, "")
    assert "too short" in done.err
    assert "home has 60 of 174 runs, 57 min more" in done.err


def test_no_store_is_4_too(here: Here, tmp_path: Path) -> None:
    path = stored(tmp_path, [])
    assert here("-c", str(path), "backtest").code == 4
    (tmp_path / "state" / "tillwatch.sqlite3").unlink()
    done = here("-c", str(path), "backtest", "--json")
    assert (done.code, done.out) == (4, "")
    assert "let the daemon run first" in done.err


def test_no_configuration_is_2(here: Here) -> None:
    assert here("backtest").code == 2


@pytest.mark.parametrize("words", [["--days", "0"], ["--days", "x"], ["--updates", "0"], ["--csv"]], ids=str)
def test_wrong_usage_is_2(words: list[str], here: Here) -> None:
    assert here("backtest", *words).code == 2


# ---- files


def lines(count: int, head: str = "timestamp,ok,seconds", row: Callable[[float, int, float], str] = "{:.0f},{},{:.4f}".format, seed: int = 3) -> str:
    rng = random.Random(seed)
    return "\n".join([head, *(row(START + place * SPACING, 1, rng.lognormvariate(-2, 0.15)) for place in range(count))]) + "\n"


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


SHAPES = {
    "plain": lines(700),
    "ms": lines(700, "t,status,ms", lambda at, ok, s: f"{at},up,{s * 1000:.1f}"),
    "iso": lines(700, "Timestamp,OK,Duration", lambda at, ok, s: f"{iso(at)},true,{s}"),
    "zulu": lines(700, "time,outcome,seconds", lambda at, ok, s: f"{iso(at)[:19]}Z,ok,{s}"),
    "semicolons": lines(700, "timestamp;ok;seconds", lambda at, ok, s: f"{at};{ok};{s}"),
    "sites": lines(700, "site,timestamp,status,ms,code", lambda at, ok, s: f"a,{at:.0f},up,{s * 1000:.0f},200"),
    "codes": lines(700, "timestamp,status,ms", lambda at, ok, s: f"{at:.0f},200,{s * 1000:.1f}"),
    "bom": "\ufeff" + lines(700),
    "blank lines": lines(700).replace("\n", "\r\n\r\n"),
    "unordered": "\n".join([lines(700).splitlines()[0], *reversed(lines(700).splitlines()[1:])]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_needs_no_configuration(shape: str, here: Here, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(SHAPES[shape], encoding="utf-8")
    done = here("backtest", "--csv", "h.csv", "--json", "--updates", "1")
    assert done.code == 0, done.err
    assert (done.json["runs"], done.json["updates"], done.json["settings"]) == (700, 1, "the defaults")
    assert (done.json["regressions"]["hits"], done.json["skipped"]["gap"]) == (0, 0)


def test_a_configuration_that_is_there_says_what_counts(here: Here, tmp_path: Path, shop: Path) -> None:
    (tmp_path / "h.csv").write_text(lines(700))
    done = here("-c", str(shop), "backtest", "--csv", "h.csv", "--json")
    assert done.json["settings"] == str(shop)
    assert done.json["updates"] > 3                        # of 42 min
    assert here("-c", "nowhere.toml", "backtest", "--csv", "h.csv").code == 2


def test_probes_are_of_one_shop_and_sites_are_not(here: Here, tmp_path: Path) -> None:
    home, pay = lines(500).splitlines()[1:], lines(500, seed=4).splitlines()[1:]
    few = lines(20, seed=5).splitlines()[1:]
    for column, updates, harmed in (("probe", 1, 2), ("site", 2, 2)):
        rows = [f"timestamp,ok,seconds,{column}", *(f"{row},home" for row in home), *(f"{row},pay" for row in pay), *(f"{row},new" for row in few)]
        (tmp_path / "h.csv").write_text("\n".join(rows))
        facts = here("backtest", "--csv", "h.csv", "--json").json
        assert (facts["updates"], len(facts["harmed_probes"])) == (updates, harmed)
        assert facts["left_out"] == [{"what": "new", "why": "20 of 354 runs, 2 h 47 min more"}]


def test_a_packed_file_is_read_whatever_its_name(here: Here, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_bytes(gzip.compress(lines(400).encode()))
    assert here("backtest", "--csv", "h.csv", "--json").code == 0


def test_harm_that_is_in_the_file_is_found_and_named(here: Here, tmp_path: Path) -> None:
    rows = lines(700).splitlines()
    slow = [f"{at},{ok},{float(seconds) * 1.8}" for at, ok, seconds in (row.split(",") for row in rows[110:])]
    (tmp_path / "h.csv").write_text("\n".join([*rows[:110], *slow]))
    done = here("backtest", "--csv", "h.csv", "--updates", "1")
    assert done.code == 0, done.err
    facts = here("backtest", "--csv", "h.csv", "--json").json
    assert facts["regressions"]["hits"] == 1
    assert facts["false_regressions"][0]["guilty"] == ["shop: duration"]
    assert "false regression 20" in here("backtest", "--csv", "h.csv").out


GOOD = f"{START:.0f},1,0.2"


@pytest.mark.parametrize(("text", "says"), [
    ("", "h.csv:1: no column holds the duration"),
    ("timestamp,ok\n", "h.csv:1: no column holds the duration: call one of them seconds or "),
    ("when,ok,ms\n", "h.csv:1: no column holds the time: call one of them timestamp or "),
    ("timestamp,good,ms\n", "h.csv:1: no column holds the outcome: call one of them ok or "),
    ("timestamp,ok,seconds\n", "h.csv: there is no row below the header"),
    (f"timestamp,ok,seconds\n{GOOD}\nsoon,1,0.2\n", "h.csv:3: column \"timestamp\": 'soon' is no time"),
    (f"timestamp,ok,seconds\n{GOOD}\n\n-5,1,0.2\n", "h.csv:4: column \"timestamp\": '-5' is no time"),
    ("timestamp,ok,seconds\nnan,1,0.2\n", "h.csv:2: column \"timestamp\": 'nan' is no time"),
    ("timestamp,ok,seconds\n1760000000000,1,0.2\n", "is too large for Unix seconds: divide milliseconds by 1000"),
    ("timestamp,ok,seconds\n1760000000,maybe,0.2\n", "h.csv:2: column \"ok\": 'maybe' is no outcome"),
    ("timestamp,status,ms\n1760000000,up,fast\n", "h.csv:2: column \"ms\": 'fast' is no duration"),
    ("timestamp,status,ms\n1760000000,up,-3\n", "h.csv:2: column \"ms\": '-3' is no duration"),
    ("timestamp,status,ms\n1760000000,up,nan\n", "h.csv:2: column \"ms\": 'nan' is no duration"),
    ("timestamp,status,ms\n1760000000,up\n", "h.csv:2: has 2 columns, the header has 3"),
    ("timestamp,status,ms\n1760000000,up," + "9" * 140_000, "h.csv:2: field larger than field limit"),
], ids=lambda value: str(value)[:40])
def test_a_file_that_cannot_be_understood_is_2_and_says_where(text: str, says: str, here: Here, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(text)
    done = here("backtest", "--csv", "h.csv", "--json")
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_file_that_cannot_be_read_is_2(here: Here, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_bytes(b"\xff\xfe\x00broken")
    assert "is no text in UTF-8" in here("backtest", "--csv", "h.csv").err
    (tmp_path / "h.csv").write_bytes(gzip.compress(lines(400).encode())[:200])
    assert here("backtest", "--csv", "h.csv").code == 2
    done = here("backtest", "--csv", "nowhere.csv")
    assert (done.code, done.out) == (2, "")
    assert "cannot read nowhere.csv" in done.err


def test_too_short_a_file_is_4(here: Here, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(lines(50))
    done = here("backtest", "--csv", "h.csv")
    assert (done.code, done.out) == (4, "")
    assert "shop has 50 of 354 runs, 2 h 32 min more" in done.err


def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(lines(40_000))
    words = command("backtest", "--csv", "h.csv", "--jobs", "2")
    words = ["env", "--default-signal=INT", *words]       # shells have it ignored by what they start in the background
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as running:
        try:
            until(lambda: len(children(running.pid)) >= 2, 40)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=20)
        finally:
            stop(running)
    assert (running.returncode, out, err) == (130, "", "\ntillwatch: interrupted\n")


def children(pid: int) -> list[str]:
    """Of its main thread, none when it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []
