"""Setting types that probes and the daemon share: durations, sizes, secrets, frozen tables."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)

from probes.scrub import know

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZES = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)")


def parse_duration(text: object) -> float:
    """Seconds of a duration such as "250ms", "30s", "1h30m" or "14d"."""
    if isinstance(text, timedelta):
        return text.total_seconds()
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError('write a duration as a string with its unit, such as "250ms", "30s", "5m", "24h" or "14d"')
    return float(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def show_duration(seconds: float) -> str:
    """The shortest exact way to write a duration, as the configuration takes it."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit in ("w", "d", "h", "m"):
        if unit != "w" and seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


def parse_size(text: object) -> int:
    """Bytes of a size such as "500kB" (decimal) or "2MiB" (binary)."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError('write a size as a string with its unit, such as "500kB", "2MB" or "1GiB"')
    return int(float(match[1]) * _SIZES[match[2]])


_DURATION_SCHEMA = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$", "examples": ["30s", "5m"]}
_SIZE_SCHEMA = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(B|[kK]B|MB|GB|[KMG]iB)$", "examples": ["2MB"]}

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]




def _beside_config(value: object, info: ValidationInfo) -> Path:
    """A path of the configuration is relative to the configuration's own folder (`context["base"]`)."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("write a path as a string")
    return Path((info.context or {}).get("base", "")) / value


ConfigPath = Annotated[Path, BeforeValidator(_beside_config), WithJsonSchema({"type": "string"})]
T = TypeVar("T")
Several = Annotated[tuple[T, ...], Field(strict=False)]     # a TOML array


class Table(BaseModel):
    """A table of the configuration: frozen, strict, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=False, populate_by_name=True)


class Named(Table):
    """What every probe itself needs to know of its own table."""

    name: str = Field(description="how metrics and messages call the probe")
    cohort: str = Field(default="", description="the part of the shop that is asked, such as canary")
    timeout: Duration = Field(default=10.0, description="a run ends no later than this")


class Secret(Table):
    """A value kept out of every log, store and message: written inline, or as { env | file | credential = ... }.

    `reveal()` reads it; reading is put off until then so that `check-config` works on a machine without the secret.
    """

    env: str = ""
    file: ConfigPath | None = None
    credential: str = ""
    inline: SecretStr = Field(default=SecretStr(""), exclude=True, repr=False)

    def reveal(self) -> str:
        """The secret itself. Raises `SecretError` (which names the place, never the value) when it cannot be read.

        This is the only way to it, so the scrubber learns of it here: no text that leaves the process can show it from now on.
        """
        value = self._value()
        know(value)
        return value

    def _value(self) -> str:
        if self.env:
            if not os.environ.get(self.env):
                raise SecretError(f"the environment variable {self.env} is not set, or empty")
            return os.environ[self.env]
        if self.file:
            return _read(self.file)
        if self.credential:
            directory = os.environ.get("CREDENTIALS_DIRECTORY")
            if not directory:
                raise SecretError(f"credential {self.credential}: no CREDENTIALS_DIRECTORY (not started by systemd?)")
            return _read(Path(directory) / self.credential)
        return self.inline.get_secret_value()


class SecretError(Exception):
    """A secret could not be read; the text says where it was looked for."""


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    if not text:
        raise SecretError(f"{path}: is empty")
    return text


def _secret(value: Any) -> Any:
    if isinstance(value, str):
        return {"inline": SecretStr(value)}
    if isinstance(value, dict) and len(value.keys() & {"env", "file", "credential"}) != 1:
        raise ValueError("give exactly one of env, file or credential")
    if isinstance(value, dict) and "inline" in value:
        raise ValueError("write an inline secret as a plain string")
    return value


SecretField = Annotated[
    Secret,
    BeforeValidator(_secret),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "string"},
                *(
                    {"type": "object", "properties": {k: {"type": "string"}}, "required": [k], "additionalProperties": False}
                    for k in ("env", "file", "credential")
                ),
            ],
        },
    ),
]
