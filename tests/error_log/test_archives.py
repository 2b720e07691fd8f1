"""Archives are read as if they were the files in them: from anywhere, in bounded memory, and damaged ones say so."""

import bz2
import gzip
import lzma
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tail_scene import zstd_compress

from probes.error_log.archives import ArchiveError, Packed, is_packed, open_plain, unpacked

PACK: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd_compress}
TEXT = b"".join(b"%08d %x\n" % (number, random.Random(number).getrandbits(64)) for number in range(60_000))


@pytest.fixture(params=sorted(PACK))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _packed(path: Path, data: bytes) -> Packed:
    path.write_bytes(data)
    return Packed(os.open(path, os.O_RDONLY))


def test_any_place_can_be_read(tmp_path: Path, kind: str) -> None:
    archive = _packed(tmp_path / "log", PACK[kind](TEXT))
    for offset, size in ((0, 10), (1_000_000, 300_000), (1_000_100, 256), (500, 1024), (len(TEXT) - 5, 100), (len(TEXT), 10), (0, 1024)):
        assert archive.reach(offset)
        assert archive.read(offset, size) == TEXT[offset : offset + size]
    archive.close()


def test_strung_together_and_padded(tmp_path: Path, kind: str) -> None:
    archive = _packed(tmp_path / "log", PACK[kind](b"one\n") + PACK[kind](b"") + PACK[kind](b"two\n") + bytes(512))
    assert archive.read(0, 100) == b"one\ntwo\n"
    archive.close()


def test_an_archive_that_is_cut_off_ends_there(tmp_path: Path, kind: str) -> None:
    data = PACK[kind](TEXT)
    archive = _packed(tmp_path / "log", data[: len(data) * 2 // 3])
    found = archive.read(0, len(TEXT))
    assert TEXT.startswith(found)
    archive.close()


def test_damage_is_said(tmp_path: Path, kind: str) -> None:
    data = bytearray(PACK[kind](TEXT))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    with pytest.raises(ArchiveError):
        _packed(tmp_path / "log", bytes(data)).read(0, len(TEXT))


def test_a_bomb_takes_no_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(PACK[kind](bytes(64 << 20)))
    tracemalloc.start()
    archive = Packed(os.open(path, os.O_RDONLY))
    assert not archive.reach(1 << 40)
    while not archive.reach(1 << 40):
        pass
    assert archive.read(1 << 40, 100) == b""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    archive.close()
    assert peak < 16 << 20           # of which xz takes 8 MiB for what it looks back to


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="not an archive"):
        _packed(tmp_path / "log", b"2026-01-01 plain text\n")


def test_names() -> None:
    assert is_packed("/var/log/app.log.1.gz")
    assert is_packed("app.zst")
    assert not is_packed("app.log.1")
    assert unpacked("app.log.1.gz") == "app.log.1"
    assert unpacked("app.log.1") == "app.log.1"


def test_opened_by_what_is_in_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    for data in (PACK[kind](TEXT), TEXT, b""):
        path.write_bytes(data)
        with open_plain(path) as file:
            assert file.read() == (TEXT if data else b"")
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "nothing")
