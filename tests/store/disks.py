"""Small file systems that can be filled, spoilt and made read-only. Only root may mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: full and read-only disks, because only root may mount file systems")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def tmpfs(at: Path, options: str) -> Iterator[Path]:
    at.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at))
    except OSError as error:
        pytest.skip(f"NOT TESTED: {error}")
    try:
        yield at
    finally:
        run("umount", "-l", str(at))


def remount(at: Path, options: str) -> None:
    run("mount", "-o", f"remount,{options}", str(at))


def fill(at: Path) -> Path:
    """Use up all the space."""
    filler = at / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return filler
