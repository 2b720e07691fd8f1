"""Who can bear witness that this monitor has its network: every address of the configuration that is not the shop."""

from collections.abc import Iterator
from typing import Any

from monitor.alerts.delivery import ReceiverSettings
from monitor.settings import Config, Probe
from monitor.uplink import Address, address, is_near
from probes.fields import Secret, SecretError, Table

_MAIL = {"starttls": 587, "tls": 465, "none": 25}      # RFC 6409, RFC 8314, RFC 5321


def witnesses(config: Config) -> tuple[Address, ...]:
    """Addresses of `[daemon] uplink`, control probes, receivers and the heartbeat, without this machine's own and without the shop's hosts."""
    shop = shop_hosts(config)
    found = dict.fromkeys(_configured(config))
    return tuple(place for place in found if not is_near(place[0]) and place[0] not in shop)


def near(config: Config) -> frozenset[str]:
    """Names of the probes that ask this very machine."""
    return frozenset(probe.name for probe in config.probe if all(is_near(host) for host, _ in dialled(probe)))


def shop_hosts(config: Config) -> frozenset[str]:
    """Hosts of the shop: of its front page, and of all probes but control probes."""
    probes = (place[0] for probe in config.probe if not probe.control for place in dialled(probe))
    return frozenset((address(config.shop.url)[0], *probes))


def dialled(probe: Probe) -> list[Address]:
    """Where a probe connects to first; nothing for a probe without an address."""
    text = getattr(probe, "connect_to", None) or getattr(probe, "url", "")
    return [address(text)] if text else []


def _configured(config: Config) -> Iterator[Address]:
    yield from map(address, config.daemon.uplink)
    for probe in config.probe:
        if probe.control:
            yield from dialled(probe)
    for receiver in config.receiver:
        yield from endpoints(receiver)
    if config.heartbeat:
        yield from map(address, addresses(config.heartbeat))


def endpoints(receiver: ReceiverSettings) -> Iterator[Address]:
    """Where a receiver of any kind is reached: a mail server with its port, or every web address among its settings."""
    if host := getattr(receiver, "host", ""):
        yield host, getattr(receiver, "port", None) or _MAIL[getattr(receiver, "tls", "none")]
    yield from map(address, addresses(receiver))


def addresses(settings: Table) -> Iterator[str]:
    """Every web address among some settings, also one that is a secret and can be read here; a runbook is for people."""
    for name in type(settings).model_fields:
        if name != "runbook":
            yield from _addresses(getattr(settings, name))


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        try:
            value = value.reveal()
        except SecretError:
            return
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _addresses(item)
