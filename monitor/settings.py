"""The whole configuration as frozen settings: what config.toml comes to."""

import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, create_model, field_validator

from monitor import config_words
from monitor.alerts.table import ReceiverSettings
from monitor.health import Rule
from monitor.heartbeat import HeartbeatSettings
from monitor.judge.signals import Margin
from monitor.scheduler import Concurrency, Schedule
from monitor.updates import UpdateSettings
from monitor.uplink import address
from monitor.web.settings import TokenSettings, WebSettings
from probes.checkout.settings import BrowserSettings
from probes.fields import ConfigPath, Duration, Named, Secret, Several, Table
from probes.table import PROBES


def _witness(text: str) -> str:
    address(text)
    return text


ARRAYS = ("probe", "receiver", "token")      # tables of which there can be several
Name = Annotated[str, Field(min_length=1, max_length=64)]
Witness = Annotated[str, AfterValidator(_witness)]
Interval = Annotated[Duration, Field(ge=0.25, le=86400 * 7, description='time between runs, down to "250ms"')]
Timeout = Annotated[Duration, Field(ge=0.01, description="a run ends no later than this")]


class ShopSettings(Table):
    """[shop]"""

    name: str = Field(min_length=1, max_length=64, description="label `shop` on every metric and alert")
    url: str = Field(pattern=r"^https?://[^\s/?#@]+([/?#]\S*)?$", description="the shop's front page; no password in it, it stands on every page")
    environment: str = Field(default="production", max_length=64, description="stands on every page and alert")
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$", description="of the shop's prices")


class DaemonSettings(Table):
    """[daemon]"""

    state_dir: ConfigPath = Field(description="SQLite, artifacts, the CLI's token; relative to this file")
    log_format: Literal["auto", "json", "console"] = Field(default="auto", description="console on a terminal, JSON elsewhere, unless set")
    retention: Duration = Field(default=30 * 86400.0, ge=3600, description="samples older than this are deleted")
    max_concurrency: Concurrency = Field(default=Concurrency(), description="runs under way at once, by kind")
    uplink: Several[Witness] = Field(default=(), description="addresses (host:port or URL) that answer whenever this monitor has its network")


class Probe(Named, Schedule, Rule):
    """What every [[probe]] has, whatever its kind."""

    kind: str
    critical: bool = Field(default=False, description="judged first; must be ruled clean before an update can PASS")
    control: bool = Field(default=False, description="a reference that the update cannot touch")
    margin: Margin | None = Field(default=None, description="what counts as worse for this probe")
    means: str = Field(default="", max_length=120, description='what its failing means to customers, such as "customers cannot pay"')

    @field_validator("control")
    @classmethod
    def _untouched(cls, control: bool, info: ValidationInfo) -> bool:
        if control and info.data.get("critical"):
            raise ValueError("a control probe cannot be critical: the update cannot touch it")
        return control


class Defaults(Schedule, Rule):
    """[defaults]: for every probe, overridden by the probe."""

    timeout: Timeout = 10.0


class Config(Table):
    """The whole configuration. Only the composition root and the command line see it; each room gets its own part."""

    path: Path
    shop: ShopSettings
    daemon: DaemonSettings
    web: WebSettings = WebSettings()
    browser: BrowserSettings = BrowserSettings()
    token: tuple[TokenSettings, ...] = ()
    update: UpdateSettings = UpdateSettings()
    heartbeat: HeartbeatSettings | None = None
    probe: tuple[Probe, ...] = ()
    receiver: tuple[ReceiverSettings, ...] = ()
    warnings: tuple[str, ...] = ()


@cache
def probe_model(kind: str) -> type[Probe]:
    """The settings of one kind of probe: what every probe has, and the kind's own."""
    known = PROBES[kind]
    bases: Any = (known.settings, Probe)
    own: Any = Literal[kind]
    pace: Any = {"interval": (Interval, known.interval), "timeout": (Timeout, known.timeout)}
    return cast("type[Probe]", create_model(f"{kind}_probe", __base__=bases, kind=(own, ...), name=(Name, ...), **pace))


def secrets(config: Config) -> Iterator[tuple[str, Secret]]:
    """Every secret of the configuration, with the name of its place."""
    for table in ARRAYS:
        for item in getattr(config, table):
            yield from _secrets_in(item, f'{table} "{item.name}"')
    yield from _secrets_in(config.heartbeat, "heartbeat")


def _secrets_in(value: Any, where: str) -> Iterator[tuple[str, Secret]]:
    if isinstance(value, Secret):
        yield where, value
    elif isinstance(value, BaseModel):
        for key, field in zip(config_words.keys(type(value)), type(value).model_fields, strict=True):
            yield from _secrets_in(getattr(value, field), f"{where}: {key}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets_in(item, f"{where}.{name}")
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets_in(item, where)


def open_to_all(path: Path) -> bool:
    """Can everybody on this host read that file of a secret? What Docker and Kubernetes mount for one container is made so, and is not meant."""
    path = path.absolute()
    if path.is_relative_to("/run/secrets") or path.is_relative_to("/var/run/secrets"):
        return False
    try:
        return bool(path.stat().st_mode & stat.S_IROTH) and all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    except (OSError, ValueError):                            # it cannot be read at all, which is said elsewhere
        return False
