"""What every verb of the command line shares: where the configuration is, which daemon to talk to, how to print."""

import json
import os
from pathlib import Path
from typing import Any

import click

from monitor import client as api
from monitor.client import Client, CommandError

CONFIGS = ("config.toml", "/etc/tillwatch/config.toml")


class Context:
    """What every verb may ask for: the configuration, the client, and how to print."""

    def __init__(self, config: str | None, url: str | None) -> None:
        self._config, self._url = config, url

    @property
    def path(self) -> Path:
        """-c FILE, $TILLWATCH_CONFIG, ./config.toml, /etc/tillwatch/config.toml."""
        named = self._config or os.environ.get("TILLWATCH_CONFIG")
        if named:
            return Path(named)
        for candidate in CONFIGS:
            if Path(candidate).exists():
                return Path(candidate)
        raise CommandError(api.USAGE, f"there is no configuration: looked for {' and '.join(CONFIGS)}; name one with -c FILE")

    @property
    def named(self) -> bool:
        """Whether a configuration was named, rather than found."""
        return bool(self._config or os.environ.get("TILLWATCH_CONFIG"))

    def config(self) -> Any:
        from monitor.config import ConfigError, load
        try:
            return load(self.path)
        except ConfigError as error:
            raise problems(error, self.path) from None

    def client(self) -> Client:
        """For the daemon at --url, $TILLWATCH_URL, or where the configuration says that it listens."""
        url = self._url or os.environ.get("TILLWATCH_URL")
        if url:
            _check(url)
        if url and not self._has_config():
            return Client(url, api.token_for(url))
        config = self.config()
        tls, url = config.web.tls, url or config.web.local
        return Client(url, api.token_for(url, config.daemon.state_dir, config.web.base), tls.cert_file if tls else None)

    def _has_config(self) -> bool:
        try:
            return self.path.exists()
        except CommandError:
            return False


def _check(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise CommandError(api.USAGE, f"--url must begin with http:// or https://, not {url!r}")
    try:
        api.address(url)
    except ValueError as error:
        raise CommandError(api.USAGE, f"--url is no address: {error}") from None


def problems(error: Any, path: Path) -> CommandError:
    """Each problem on a line that an editor can jump to, then how many there are."""
    click.echo(str(error), err=True)
    return CommandError(api.USAGE, f"{len(error.problems)} problem{'s' if len(error.problems) > 1 else ''} in {path}")


pass_context = click.make_pass_decorator(Context)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def show(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
