"""The verbs of whoever is on call, against a daemon whose shop is down."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import free_port
from street import Done, answers, command, process, till, until

from monitor.demo.inbox import Inbox

pytestmark = pytest.mark.timeout(120)

CONFIG = """\
[shop]
name = "kettle-and-leaf"
url = "http://127.0.0.1:{shop}"
[web]
listen = "127.0.0.1:{daemon}"
[defaults]
interval = "250ms"
timeout = "250ms"
recheck = "250ms"
failures = 1
of = 1
confirm = "0s"
[[probe]]
name = "pay-card"
kind = "http"
url = "http://127.0.0.1:{shop}/card"
expect = {{ status = [200], body_contains = ["x"] }}
[[probe]]
name = "pay-bill"
kind = "http"
url = "http://127.0.0.1:{shop}/bill"
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{inbox}/page"
secret = "{secret}"
"""


@dataclass
class Night:
    """A daemon that has just found its shop down."""

    url: str
    token: str
    inbox: Inbox

    def till(self, *words: str) -> Done:
        return till(*words, TILLWATCH_URL=self.url, TILLWATCH_TOKEN=self.token)

    def incident(self) -> str:
        return str(until(lambda: self.till("incidents", "--json").json)[0]["id"])


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    directory = tmp_path_factory.mktemp("night")
    daemon = free_port()
    with Inbox.listening() as inbox:
        config = directory / "config.toml"
        config.touch(mode=0o600)
        config.write_text(CONFIG.format(shop=free_port(), daemon=daemon, inbox=inbox.port, secret=inbox.secret))
        with process(command("-c", str(config), "run"), directory / "daemon.log"):
            until(lambda: answers(daemon))
            yield Night(f"http://127.0.0.1:{daemon}", Path(directory / "state" / "token").read_text().strip(), inbox)


def test_an_incident_is_taken_by_the_beginning_of_its_name(night: Night) -> None:
    id_ = night.incident()
    assert "told" in night.till("incidents").out
    done = night.till("ack", id_[:20])
    assert (done.code, done.out) == (0, f"{id_}: taken by local admin\n")
    assert "taken by local admin" in night.till("incidents").out
    assert night.till("ack", id_.upper(), "--json").json["acked_by"] == "local admin"


def test_feedback_is_shown_with_the_incident(night: Night) -> None:
    id_ = night.incident()
    done = night.till("feedback", id_, "false")
    assert (done.code, done.out) == (0, f"{id_}: false\n")
    assert night.till("incidents").out.rstrip().endswith("false")
    assert night.till("feedback", id_, "meh").code == 2


def test_an_incident_that_is_not_there(night: Night) -> None:
    done = night.till("ack", "nobody")
    assert (done.code, done.err) == (7, "tillwatch: there is no incident nobody\n")
    assert night.till("feedback", "nobody", "useful").code == 7
    assert night.till("ack", "").code == 7


def test_a_silence_from_its_beginning_to_its_end(night: Night) -> None:
    night.incident()
    done = night.till("silence", "pay-*", "--for", "2h", "--reason", "the <bank> is closed")
    assert done.code == 0, done.err
    id_, _, words = done.out.partition(": ")
    assert words.startswith("pay-bill, pay-card silenced until 20")
    assert "silenced" in night.till("incidents").out
    shown = night.till("silences")
    assert (shown.code, "the <bank> is closed" in shown.out, "yes" in shown.out) == (0, True, True)
    ended = night.till("unsilence", id_)
    assert (ended.code, ended.out) == (0, f"{id_}: ended\n")
    assert night.till("unsilence", id_).code == 7
    facts = night.till("silences", "--json").json[0]
    assert (facts["id"], facts["active"], facts["ended_by"]) == (id_, False, "local admin")
    assert "ended by local admin" in night.till("silences").out
    assert "silenced" not in night.till("incidents").out


def test_two_silences_with_one_beginning_are_told_apart(night: Night) -> None:
    made = [night.till("silence", "pay-card", "--for", "1h", "--reason", "why", "--json").json["id"] for _ in range(2)]
    common = made[0][:2]                      # turns every 35 years; a fifth character would every 9 h
    assert made[1].startswith(common)
    done = night.till("unsilence", common)
    assert (done.code, "write more of it" in done.err) == (2, True)
    assert [night.till("unsilence", id_).code for id_ in made] == [0, 0]


@pytest.mark.parametrize(("words", "code", "said"), [
    (("nobody", "--for", "2h", "--reason", "why"), 2, 'no probe is named "nobody"'),
    (("pay-card", "--for", "soon", "--reason", "why"), 2, "duration"),
    (("pay-card", "--for", "2h", "--reason", ""), 2, "reason"),
    (("pay-card", "--for", "2h"), 2, "--reason"),
    (("pay-card", "--reason", "why"), 2, "--for"),
    (("--for", "2h", "--reason", "why"), 2, "NAME"),
])
def test_a_silence_that_is_none_says_why(night: Night, words: tuple[str, ...], code: int, said: str) -> None:
    done = night.till("silence", *words)
    assert (done.code, said in done.err) == (code, True), done.err
