"""What cannot be followed is said, is no crash, and is followed again when it can be. And only logs are opened."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Stopwatch
from tail_scene import Follower, append, as_bytes, numbered

from probes.error_log.positions import Unreadable
from probes.error_log.tail import Tail
from probes.error_log.tail_find import find, matches
from probes.error_log.tail_names import origins

NOBODY = 65534


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def test_vanished_folders_and_files_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = folder / "app.log"
    follower = Follower(log, folder / "*.txt")
    assert follower.read() == []
    assert follower.problems == {str(log): "no such file", str(folder / "*.txt"): "no file matches"}
    folder.mkdir()
    append(log, "1")
    assert follower.read() == [b"1"]
    log.unlink()
    folder.rmdir()
    assert follower.read() == []
    assert follower.problems[str(log)] == "no such file"
    folder.mkdir()
    append(log, "2")
    append(folder / "a.txt", "3")
    follower.ahead += 6
    assert sorted(follower.read()) == [b"2", b"3"]
    assert follower.problems == {}


def test_a_folder_that_is_moved_away_and_back_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "app.log"
    append(log, "1")
    follower = Follower(folder / "*.log")
    follower.read()
    folder.rename(tmp_path / "away")
    follower.restart()
    for _ in range(3):
        follower.ahead += 40
        assert follower.read() == []
    append(tmp_path / "away" / "app.log", "2")
    (tmp_path / "away").rename(folder)
    follower.ahead += 6
    assert follower.read() == [b"2"]


def test_a_link_that_is_turned(tmp_path: Path) -> None:
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "current.log"
    append(one, *numbered(0, 20, "one"))
    append(two, *numbered(0, 20, "two"))
    link.symlink_to(one)
    follower = Follower(link)
    assert len(follower.read()) == 20
    append(one, "last of one")
    _turn(link, two)
    assert follower.read() == [b"last of one", *as_bytes(numbered(0, 20, "two"))]
    follower.settle()
    append(one, "one again")
    _turn(link, one)
    follower.restart()
    assert follower.read() == [b"one again"]
    append(two, "two again")
    _turn(link, two)
    assert follower.settle() == [b"two again"]
    link.unlink()
    link.symlink_to("nowhere")
    assert follower.read() == []
    assert follower.problems == {str(link): "a link to nowhere"}
    _turn(link, two)
    append(two, "and on")
    assert follower.read() == [b"and on"]


def _turn(link: Path, target: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.rename(link)


def test_two_names_of_one_file_are_read_once(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, "1")
    (tmp_path / "link.log").symlink_to(log)
    (tmp_path / "hard.log").hardlink_to(log)
    follower = Follower(tmp_path / "*.log")
    assert follower.read() == [b"1"]
    append(log, "2")
    follower.restart()
    assert follower.read() == [b"2"]
    log.unlink()
    append(tmp_path / "hard.log", "3")
    assert follower.settle() == [b"3"]
    append(tmp_path / "hard.log", "4")
    assert follower.settle() == [b"4"]


def test_pipes_devices_and_folders_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    (tmp_path / "zero.log").symlink_to("/dev/zero")
    (tmp_path / "tty.log").symlink_to("/dev/tty")
    append(tmp_path / "app.log", "1")
    watch = Stopwatch()
    follower = Follower(tmp_path / "*.log", tmp_path / "pipe.log", tmp_path / "folder.log", "/dev/zero")
    assert follower.read() == [b"1"]
    with watch:
        assert watch() < 1
    assert follower.problems == dict.fromkeys([str(tmp_path / "pipe.log"), str(tmp_path / "folder.log"), "/dev/zero"], "not a regular file")


def test_archives_are_not_followed(tmp_path: Path) -> None:
    append(tmp_path / "app.log.1.gz", "no text")
    append(tmp_path / "app.log", "1")
    follower = Follower(tmp_path / "app.log*", tmp_path / "app.log.1.gz")
    assert follower.read() == [b"1"]
    assert list(follower.problems) == [str(tmp_path / "app.log.1.gz")]


PERMISSIONS = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tail_scene import Follower, append
if os.getuid() == 0:                # who may do everything sees no difference
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
folder = Path(sys.argv[1])
log, told = folder / "app.log", []
def step(what, restart=True):
    if restart:
        follower.restart()
    lines = [line.decode() for line in follower.read()]
    told.append([what, lines, sorted((Path(path).name, why) for path, why in follower.problems.items())])
append(log, "old")
log.chmod(0)
follower = Follower(folder / "*.log", begin="end")
step("unreadable from the start")
log.chmod(0o644)
append(log, "1")
step("readable")
log.chmod(0)
step("unreadable")
log.chmod(0o200)
append(log, "2")
log.chmod(0o644)
step("readable again")
folder.chmod(0)
step("folder")
folder.chmod(0o755)
append(log, "3")
step("folder again")
append(log, "4")
log.chmod(0)
step("open already", restart=False)
log.chmod(0o644)
hidden = folder / "hidden"
hidden.mkdir()
append(hidden / "b.log", "old")
hidden.chmod(0)
follower = Follower(folder / "hidden" / "*.log", folder / "hidden" / "b.log", begin="end")
step("nobody may look")
hidden.chmod(0o755)
follower.ahead += 6
step("old lines are not new ones")
append(hidden / "b.log", "5")
step("new ones are")
print(json.dumps(told))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every user can reach; to those of pytest only root gets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_permissions_that_go_and_come(open_folder: Path) -> None:
    folder = open_folder / "logs"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    answer = subprocess.run([sys.executable, "-c", PERMISSIONS, str(folder), str(Path(__file__).parent)],
                            capture_output=True, text=True, check=False, timeout=50)
    assert answer.returncode == 0, answer.stderr
    denied = "permission denied"
    assert json.loads(answer.stdout) == [
        ["unreadable from the start", [], [["app.log", denied]]],
        ["readable", ["1"], []],
        ["unreadable", [], [["app.log", denied]]],
        ["readable again", ["2"], []],
        ["folder", [], [["app.log", denied], ["logs", denied]]],
        ["folder again", ["3"], []],
        ["open already", ["4"], []],
        ["nobody may look", [], [["b.log", denied], ["hidden", denied]]],
        ["old lines are not new ones", [], []],
        ["new ones are", ["5"], []],
    ]


def test_an_unreadable_checkpoint_is_said_and_begins_anew(log: Path) -> None:
    append(log, "1")
    reading = Tail([str(log)]).read(Unreadable("the checkpoint is damaged"), lambda _file: lambda data, _final: len(data), time.time(), lambda: True)
    assert reading.problems == {"checkpoint": "the checkpoint is damaged: files begin anew"}
    assert reading.behind == 0


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_descriptors_are_few_and_closed_in_the_end(tmp_path: Path) -> None:
    before = _open()
    for number in range(300):
        append(tmp_path / f"{number}.log", "x")
    follower = Follower(tmp_path / "*.log")
    assert len(follower.read()) == 300
    assert _open() - before <= 200
    for number in range(300):
        append(tmp_path / f"{number}.log", "y")
    assert len(follower.read()) == 300
    follower.tail.close()
    assert _open() == before


def test_patterns(tmp_path: Path) -> None:
    for name in ("a.log", "b/a.log", "b/c/a.log", ".hidden.log", "b/.hidden/a.log", "b/x[1].log", "b/x1.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    wanted = {
        "*.log": ["a.log"], "*/*.log": ["b/a.log", "b/x1.log", "b/x[1].log"], "**/a.log": ["a.log", "b/a.log", "b/c/a.log"],
        "b/**": ["b/a.log", "b/c/a.log", "b/loop", "b/x1.log", "b/x[1].log"], ".*.log": [".hidden.log"], "b/x[0-9].log": ["b/x1.log"],
        "b/x[[]1].log": ["b/x[1].log"], "?.log": ["a.log"], "b/loop/b/?.log": ["b/loop/b/a.log"], "none/*": [],
    }
    for pattern, paths in wanted.items():
        found = find([f"{tmp_path}/{pattern}"])
        assert found.paths == [f"{tmp_path}/{path}" for path in paths], pattern
        assert all(matches(path, [f"{tmp_path}/{pattern}"]) for path in found.paths)
    assert not matches(f"{tmp_path}/b/.hidden/a.log", [f"{tmp_path}/**/*.log"])
    assert not matches(f"{tmp_path}/b/a.log", [f"{tmp_path}/*.log"])


@pytest.mark.parametrize(("name", "base"), [
    ("app.log.1", "app.log"), ("app.log.1.gz", "app.log"), ("app.log-20240131", "app.log"), ("app.log-20240131-1706659200.zst", "app.log"),
    ("app.log.2024-01-31_12-00-00", "app.log"), ("app-20240131.log", "app.log"), ("app.1.log", "app.log"), ("app.1.log.xz", "app.log"),
    ("app-2024-01-31.log", "app.log"), ("error.log.old", "error.log"), ("syslog.1", "syslog"), ("app.log~", "app.log"),
])
def test_names_of_rotated_files(name: str, base: str) -> None:
    assert base in origins(name)


@pytest.mark.parametrize(("name", "base"), [
    ("app.log", "app.log"), ("app-2.log", "app.log"), ("app2.log", "app.log"), ("app.log.gz.tmp", "app.log"), ("app-worker.log", "app.log"),
    ("app.logs", "app.log"), ("myapp.log.1", "app.log"),
])
def test_names_of_other_files(name: str, base: str) -> None:
    assert base not in origins(name)
