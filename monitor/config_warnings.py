"""What can be meant, and is probably a mistake: a configuration with it is taken, and `check-config` says it."""

from collections.abc import Iterator

from monitor.settings import Config, secrets
from monitor.witnesses import near, witnesses
from probes.fields import SecretError


def warnings(config: Config) -> Iterator[str]:
    """A sentence for each."""
    yield from unreadable(config)
    yield from unheard(config)
    yield from unwitnessed(config)


def unwitnessed(config: Config) -> Iterator[str]:
    """A lost network of our own would look like an outage of the shop."""
    if not witnesses(config) and len(near(config)) < len(config.probe):
        yield ("daemon.uplink: no address beside the shop can tell whether this monitor itself has lost its network, which will look like "
               'an outage of the shop: set uplink = ["1.1.1.1:53"]')


def unreadable(config: Config) -> Iterator[str]:
    """Secrets that are not on this machine."""
    for where, secret in secrets(config):
        try:
            secret.reveal()
        except SecretError as error:
            yield f"{where}: {error}"


def unheard(config: Config) -> Iterator[str]:
    """Alarms that nobody is told of."""
    if not config.receiver:
        yield "there is no [[receiver]]: nobody is told of anything"
        return
    for kind, words in (("outage", "an outage"), ("regression", "a regression")):
        if not any(kind in receiver.on for receiver in config.receiver):
            yield f'no receiver has "{kind}" in its `on`: nobody is told of {words}'
