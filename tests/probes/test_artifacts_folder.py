"""The folder of evidence: bounded, readable by the daemon alone, and nothing in it leads anywhere else."""

import os
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from probes import artifacts
from probes.artifacts import MOST, NAME, ArtifactError, Artifacts
from probes.scrub import scrub

PNG = b"\x89PNG\r\n\x1a\n"
NOW = 1_790_000_000.0
DAY = 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "state" / "artifacts", 100_000)


def aged(folder: Artifacts, name: str, at: float) -> str:
    os.utime(folder.folder / name, (at, at))
    return name


def names(folder: Artifacts) -> set[str]:
    return {path.name for path in folder.folder.iterdir()}


def statvfs(free: int) -> Any:
    """A disk with so many bytes free, as `os.fstatvfs` tells of it."""
    def told(descriptor: int) -> os.statvfs_result:
        is_ = list(os.fstatvfs(descriptor))
        is_[0], is_[1], is_[3], is_[4] = 4096, 4096, free // 4096 + 100_000, free // 4096        # bsize, frsize, bfree (with root's), bavail
        return os.statvfs_result(is_)
    return told


# ---- keeping


def test_what_is_kept_can_be_read_by_its_name_and_by_nobody_else(folder: Artifacts) -> None:
    for data, ext in ((PNG + b"x", "png"), (b"PK\x03\x04x", "zip"), (b"{}", "json"), (b"<script>", "txt"), (b"", "txt")):
        name = folder.put(data, ext)
        assert NAME.fullmatch(name)
        assert name.endswith(f".{ext}")
        with folder.open(name) as file:
            assert file.read() == data
        assert (folder.folder / name).stat().st_mode & 0o777 == 0o600
    assert folder.folder.stat().st_mode & 0o777 == 0o700
    assert len(names(folder)) == 5, "nothing unfinished is left"


def test_names_cannot_be_guessed_and_survive_what_hides_cards(folder: Artifacts) -> None:
    found = {artifacts._name("png") for _ in range(3000)}
    assert len(found) == 3000
    for name in found:
        assert scrub(f"screenshot artifacts/{name}") == f"screenshot artifacts/{name}"


@pytest.mark.parametrize("ext", ["html", "svg", "PNG", "", "png/../x", "../x", "txt\0", "txt\n", "js", "x" * 10_000])
def test_other_kinds_are_not_kept(folder: Artifacts, ext: str) -> None:
    with pytest.raises(ArtifactError):
        folder.put(PNG, ext)
    assert not folder.folder.exists()


@pytest.mark.parametrize(("data", "ext"), [(b"<svg onload=alert(1)>", "png"), (b"GIF89a", "png"), (b"", "png"), (b"<html>", "zip")])
def test_what_is_called_a_picture_is_one(folder: Artifacts, data: bytes, ext: str) -> None:
    with pytest.raises(ArtifactError, match=f"this is no {ext}"):
        folder.put(data, ext)


# ---- size and age


def test_the_oldest_make_room(folder: Artifacts) -> None:
    kept = [aged(folder, folder.put(b"x" * 30_000, "txt"), NOW + number) for number in range(3)]
    newest = folder.put(b"x" * 30_000, "txt")
    assert names(folder) == {*kept[1:], newest}
    whole = folder.put(b"x" * 100_000, "txt")
    assert names(folder) == {whole}


def test_what_is_larger_than_all_of_it_is_refused_and_costs_nothing(folder: Artifacts) -> None:
    name = folder.put(b"x", "txt")
    with pytest.raises(ArtifactError, match="100001 bytes are too much"):
        folder.put(b"x" * 100_001, "txt")
    assert names(folder) == {name}
    with pytest.raises(ArtifactError, match="too much"):
        Artifacts(folder.folder, 10 * MOST).put(bytes(MOST + 1), "txt")


def test_a_full_folder_of_which_nothing_can_be_taken_away_refuses(folder: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put(b"x" * 90_000, "txt")

    def stuck(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr(artifacts.os, "unlink", stuck)
    with pytest.raises(ArtifactError, match="nothing in it can be taken away"):
        folder.put(b"x" * 20_000, "txt")
    assert folder.sweep(NOW + 10**6, 0.0) == 0


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path) -> None:
    least = artifacts.MIN_FREE
    with pytest.raises(ArtifactError, match="less than 1 GiB of the disk is free"):
        Artifacts(tmp_path, 100_000, statvfs(least)).put(b"x" * 100, "txt")
    assert list(tmp_path.iterdir()) == []
    assert Artifacts(tmp_path, 100_000, statvfs(least + 4096)).put(b"x" * 100, "txt")


def test_a_disk_that_cannot_be_written_is_a_reason_and_leaves_nothing(folder: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    name = folder.put(b"first", "txt")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(artifacts.os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        folder.put(b"second", "txt")
    assert names(folder) == {name}


def test_what_is_old_is_swept(folder: Artifacts) -> None:
    assert folder.sweep(NOW, DAY) == 0, "there is no folder yet"
    now = time.time()
    old, young = (aged(folder, folder.put(b"x", "txt"), now - age) for age in (15 * DAY, 13 * DAY))
    unfinished, fresh = folder.folder / f".{'a' * 32}.png", folder.folder / f".{'b' * 32}.png"
    unfinished.write_bytes(b"x")
    fresh.write_bytes(b"x")
    os.utime(unfinished, (now - 7200, now - 7200))
    (folder.folder / "notes.txt").write_bytes(b"ours? no")
    os.utime(folder.folder / "notes.txt", (0, 0))
    assert folder.sweep(now, 14 * DAY) == 2
    assert names(folder) == {young, fresh.name, "notes.txt"}
    with pytest.raises(FileNotFoundError):
        folder.open(old)
    smaller = Artifacts(folder.folder, 0)
    assert smaller.sweep(now, 14 * DAY) == 1, "the size was set down"


def test_many_at_once_stay_within_the_size(folder: Artifacts) -> None:
    rng = random.Random(1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda size: folder.put(b"x" * size, "txt"), [rng.randint(1, 40_000) for _ in range(60)]))
    assert len(set(found)) == 60
    assert sum(path.stat().st_size for path in folder.folder.iterdir()) <= 100_000
    assert not [name for name in names(folder) if name.startswith(".")]


# ---- attacks


@pytest.mark.parametrize("name", [
    "", ".", "..", "../../etc/passwd", "/etc/passwd", f"../{'a' * 32}.png", f"{'a' * 32}.png/", f"./{'a' * 32}.png", f"{'a' * 32}.png\0",
    f"{'a' * 32}.png\n",
    f"{'A' * 32}.png", f"{'a' * 31}.png", f"{'a' * 33}.png", f"{'a' * 32}.html", f"{'a' * 32}.svg", f"{'a' * 32}.PNG", f".{'a' * 32}.png",
    f"{'a' * 32}%2epng", "x" * 10_240, f"{'a' * 32}.png/../../token", f"{'٠' * 32}.png"])
def test_no_other_name_is_opened(folder: Artifacts, name: str) -> None:
    folder.put(PNG, "png")
    (folder.folder / f".{'a' * 32}.png").write_bytes(PNG)
    (folder.folder.parent / f"{'a' * 32}.png").write_bytes(b"the token")
    with pytest.raises(FileNotFoundError):
        folder.open(name)


def test_links_lead_nowhere(folder: Artifacts, tmp_path: Path) -> None:
    folder.put(b"x", "txt")
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    os.utime(secret, (0, 0))
    link, dangling, loop = (folder.folder / f"{letter * 32}.txt" for letter in "abc")
    link.symlink_to(secret)
    dangling.symlink_to(tmp_path / "nowhere")
    loop.symlink_to(loop)
    for path in (link, dangling, loop):
        with pytest.raises(FileNotFoundError):
            folder.open(path.name)
    assert folder.sweep(time.time() + 10 * DAY, DAY) == 4, "the links themselves go"
    assert secret.read_text() == "of somebody else"
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_file_is_neither_read_nor_waited_for(folder: Artifacts) -> None:
    folder.put(b"x", "txt")
    pipe, directory, sock = (folder.folder / f"{letter * 32}.txt" for letter in "abc")
    os.mkfifo(pipe)
    directory.mkdir()
    (directory / "inside").write_text("stays")
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder.folder)                                  # a socket's path may be no longer than 108 bytes
    try:
        listening.bind(sock.name)
    finally:
        os.chdir(here)
    opened: list[object] = []

    def open_all() -> None:
        for path in (pipe, directory, sock):
            with pytest.raises(FileNotFoundError):
                opened.append(folder.open(path.name))
    thread = threading.Thread(target=open_all, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert opened == []
    listening.close()
    folder.sweep(time.time() + 10 * DAY, DAY)
    assert (directory / "inside").read_text() == "stays"


def test_a_folder_that_is_a_link_is_not_used(folder: Artifacts, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / f"{'a' * 32}.txt"
    victim.write_text("of somebody else")
    os.utime(victim, (0, 0))
    folder.folder.parent.mkdir(parents=True)
    folder.folder.symlink_to(elsewhere)
    with pytest.raises(ArtifactError):
        folder.put(b"x", "txt")
    with pytest.raises(FileNotFoundError):
        folder.open(victim.name)
    assert folder.sweep(NOW, 1.0) == 0
    assert [path.name for path in elsewhere.iterdir()] == [victim.name]


def test_a_name_that_is_taken_by_a_link_is_not_written_through(folder: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had guessed the next name."""
    folder.put(b"x", "txt")
    target = tmp_path / "target"
    target.write_text("safe")
    monkeypatch.setattr(artifacts.secrets, "token_hex", lambda _: "ab" * 16)
    (folder.folder / f".{'ab' * 16}.txt").symlink_to(target)
    with pytest.raises(ArtifactError):
        folder.put(b"written through", "txt")
    (folder.folder / f".{'ab' * 16}.txt").unlink()
    (folder.folder / f"{'ab' * 16}.txt").symlink_to(target)
    folder.put(b"in its place", "txt")
    assert target.read_text() == "safe"
    assert (folder.folder / f"{'ab' * 16}.txt").read_text() == "in its place"
    assert not (folder.folder / f"{'ab' * 16}.txt").is_symlink()


# ---- what a text says of it


ONE, TWO = f"{'1a' * 16}.png", f"{'2b' * 16}.txt"


def test_what_a_text_names() -> None:
    text = f'step "pay": no button [screenshot artifacts/{ONE}, page artifacts/{TWO}]'
    assert artifacts.mentioned(text) == [("screenshot", ONE), ("page", TWO)]
    assert artifacts.without(text) == 'step "pay": no button'
    assert artifacts.linked(text, lambda what, name: f"<{what} {name[:2]}>") == 'step "pay": no button [<screenshot 1a>, <page 2b>]'


@pytest.mark.parametrize("text", [
    "", "artifacts/", f"artifacts/{ONE}", f"screenshot artifacts/{ONE}x", f"screenshot artifacts/{ONE}.html", f"screenshot artifacts/../{ONE}",
    f"screenshot artifacts/{ONE[:-4]}.html", f"screenshot /artifacts/{ONE}", f"screenshot artifacts/{ONE.upper()}", f"x/artifacts/{ONE}"])
def test_everything_else_stays_text(text: str) -> None:
    assert artifacts.mentioned(text) == []
    assert artifacts.linked(text, lambda *_: "LINK") == text
    assert artifacts.without(text) == text


@pytest.mark.parametrize("piece", [" ", "[", "a", f"[page artifacts/{TWO}, ", f"page artifacts/{TWO}", f" [page artifacts/{TWO}]x", "artifacts/"])
def test_reading_a_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    begun = time.thread_time()
    artifacts.mentioned(text)
    artifacts.without(text)
    assert time.thread_time() - begun < 1.0
