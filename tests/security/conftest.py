"""Fixtures: a quiet daemon of its own process, for those who knock at its door."""

from collections.abc import Iterator

import pytest
from masquerade import Guest, town
from processes import free_port

QUIET = """
[shop]
name = "kettle"
url = "http://127.0.0.1:{port}/"
[web]
listen = "127.0.0.1:{own}"
url = "https://till.example"
[[token]]
name = "ci"
value = "update-0123456789-0123456789"
[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{port}/fine"
interval = "250ms"
timeout = "250ms"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("quiet")
    with town() as here:
        guest = Guest(folder, free_port(), {}, debug=False, shop=here.thread)
        (folder / "config.toml").write_text(QUIET.format(port=here.port, own=guest.port))
        (folder / "config.toml").chmod(0o600)
        guest.start()
        try:
            yield guest
        finally:
            guest.stop()
