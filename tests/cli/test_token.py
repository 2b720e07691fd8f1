"""Whom the command line shows a token: the daemon on this host may see the kept one, and nobody on the way may see any."""

from collections.abc import Callable
from pathlib import Path

import pytest

from monitor import command
from monitor.client import USAGE, CommandError, token_for

Used = Callable[..., tuple[str, str]]

CONFIG = """\
[shop]
name = "kettle"
url = "https://shop.example"
[web]
url = "{base}"
[[probe]]
name = "home"
kind = "http"
url = "https://shop.example/"
"""


@pytest.mark.parametrize("held", [b"", b"\xff\xfe garbage", b"two\nlines"])
def test_what_is_no_token_is_as_if_there_were_none(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "token").write_bytes(held)
    assert token_for("http://127.0.0.1:9464", tmp_path) == ""


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Used:
    """The address and the token that a command would use on a host where the daemon keeps a token."""
    seen: list[tuple[str, str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Client", lambda url, token, *_: seen.append((url, token)))
    for name in ("TILLWATCH_URL", "TILLWATCH_CONFIG", "TILLWATCH_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def use(url: str | None = None, base: str = "", token: str = "", *, config: bool = True) -> tuple[str, str]:
        (tmp_path / "state").mkdir(exist_ok=True)
        (tmp_path / "state" / "token").write_text("kept\n")
        (tmp_path / "config.toml").write_text(CONFIG.format(base=base) + f'[daemon]\nstate_dir = "{tmp_path}/state"\n')
        (tmp_path / "config.toml").chmod(0o600)
        if not config:
            (tmp_path / "config.toml").unlink()
        monkeypatch.setenv("TILLWATCH_TOKEN", token)
        command.Context(None, url).client()
        return seen.pop()
    return use


@pytest.mark.parametrize(("url", "base"), [
    (None, ""), ("http://127.0.0.1:1", ""), ("http://localhost:1", ""), ("http://[::1]:1/", ""), ("https://127.0.0.1:1", "https://till.example"),
    (None, "https://till.example"), ("https://TILL.example:443/", "https://till.example"), ("https://till.example/w/", "https://till.example/w")])
def test_the_kept_token_goes_to_this_host_and_to_the_configured_address(url: str | None, base: str, used: Used) -> None:
    assert used(url, base)[1] == "kept"


@pytest.mark.parametrize("url", [
    "https://other.example", "https://till.example:8443", "https://till.example.evil.example", "https://till.example@evil.example",
    "https://till.example/other", "http://127.0.0.1@evil.example", "http://localhost.evil.example", "http://till.example"])
def test_the_kept_token_goes_nowhere_else(url: str, used: Used) -> None:
    assert used(url, "https://till.example") == (url, "")


@pytest.mark.parametrize("config", [True, False])
def test_a_token_of_the_environment_goes_where_it_is_told_to(config: bool, used: Used) -> None:
    for url in ("https://other.example", "http://127.0.0.1:1", "http://localhost:1"):
        assert used(url, token="mine", config=config) == (url, "mine")


@pytest.mark.parametrize(("url", "base", "token", "config"), [
    ("http://till.example:9464", "", "mine", False),
    ("http://till.example:9464", "", "mine", True),
    ("http://127.0.0.1@evil.example", "", "mine", False),
    ("http://till.example/", "http://till.example", "", True),
])
def test_no_token_is_sent_in_the_clear(url: str | None, base: str, token: str, config: bool, used: Used) -> None:
    with pytest.raises(CommandError, match=r"a token is not sent over plain http to \S+\.example, where others could read it") as refused:
        used(url, base, token, config=config)
    assert refused.value.code == USAGE
    assert "mine" not in str(refused.value)


def test_without_an_address_the_daemon_of_this_host_is_meant_whatever_people_call_it(used: Used) -> None:
    assert used(None, "http://till.example", "mine", config=True) == ("http://127.0.0.1:9464", "mine")


def test_without_a_token_plain_http_will_do(used: Used) -> None:
    assert used("http://till.example:9464", config=False) == ("http://till.example:9464", "")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https://x:99999", "https://:1"])
def test_an_address_that_leads_nowhere_is_wrong_usage(url: str, used: Used) -> None:
    with pytest.raises(CommandError, match="--url is no address") as refused:
        used(url)
    assert refused.value.code == USAGE
