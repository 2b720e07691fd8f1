"""Fixtures: a configuration on disk, and the command that checks it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from monitor import cli

SHOP = '[shop]\nname = "example-shop"\nurl = "https://shop.example"\n'
HOME = '\n[[probe]]\nname = "home"\nkind = "http"\nurl = "https://shop.example/"\n'


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def tillwatch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """tillwatch("check-config", ...) as a shell would run it."""
    monkeypatch.delenv("TILLWATCH_CONFIG", raising=False)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tillwatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return Answer(end.value.code or 0, out, err)

    return call


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """written(text) is a config.toml that holds it, readable by everybody."""
    def write(text: str | bytes, mode: int = 0o644) -> Path:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def home(written: Callable[..., Path]) -> Callable[..., Path]:
    """home(text) is a good config.toml with one probe, and `text` at its end: keys of that probe first."""
    return lambda text="", mode=0o644: written(SHOP + HOME + text, mode)
