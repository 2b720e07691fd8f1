"""What the web server is told: where it listens, and whose tokens it takes."""

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from probes.fields import ConfigPath, SecretField, Several, Table

Scope = Literal["read", "update", "operate", "admin"]


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError('write an address and a port, such as "127.0.0.1:9464"')
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f'"{host}" is not an IP address: write "0.0.0.0:{port}" for all of IPv4, "[::]:{port}" for all') from None
    return text


class TlsSettings(Table):
    """Certificate and key of the listener, in PEM."""

    cert_file: ConfigPath = Field(description="certificate with its chain, PEM")
    key_file: ConfigPath = Field(description="its private key, PEM")


class WebSettings(Table):
    """[web]"""

    listen: Annotated[str, AfterValidator(_address)] = Field(default="127.0.0.1:9464", description="/metrics, health, API, operator pages")
    tls: TlsSettings | None = Field(default=None, description="needed to listen beyond loopback")
    url: str = Field(
        default="", pattern=r"^(https?://[^\s/?#@]+([/?#]\S*)?)?$",
        description="how people reach it, for links in messages; its host is served beside this machine's own names",
    )

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def base(self) -> str:
        """The address to link to, without a slash at the end."""
        return self.url.rstrip("/") or self.local

    @property
    def local(self) -> str:
        """The address for programs on this host."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)  # noqa: S104
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class TokenSettings(Table):
    """[[token]]: what changes state needs one; its name is recorded with all that it does."""

    name: str = Field(min_length=1, max_length=64, description="recorded with all that is done with the token")
    value: SecretField = Field(description="the token itself")
    scopes: Several[Scope] = Field(default=("update",), min_length=1, description="what it may do; admin may do everything")
