"""The corpus as the scanner reads it."""

from collections.abc import Iterable

from corpus_events import Labelled

from probes.error_log.event import Event
from probes.error_log.formats import FORMATS
from probes.error_log.scan import Scanner
from probes.error_log.tally import Known, Tally

# Formats of the corpus that are read by a preset of another name.
READ_AS = {"php_fpm": "php", "gunicorn": "python", "mariadb": "mysql", "ruby": "generic"}


class Names(Tally):
    """A tally that keeps the signature of each event, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def add(self, known: Known) -> None:
        self.names.append(known.name)


def preset(event: Labelled) -> str:
    return READ_AS.get(event.format, event.format)


def parsed(event: Labelled) -> Event | None:
    """What the event's format makes of it."""
    return FORMATS[preset(event)].read(event.text)


def named(events: Iterable[Labelled]) -> list[str]:
    """The signature that the scanner gives to each event, which somebody else has found to be one. Each format is a log of its own."""
    scanners: dict[str, Scanner] = {}
    found = []
    for event in events:
        if event.format not in scanners:
            scanners[event.format] = Scanner(preset(event))
        scanner = scanners[event.format]
        scanner.tally = tally = Names()
        scanner.entry(event.text.encode(), "error")
        found.append(f"{event.format}/{tally.names[0]}")
    return found
