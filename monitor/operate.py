"""The verbs of whoever is on call: incidents, ack, feedback, silence, silences, unsilence."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import click

from monitor import client as api
from monitor.client import Client, CommandError
from monitor.command import Context, as_json, pass_context, show


@click.command()
@click.option("--all", "everything", is_flag=True, help="Past ones too.")
@as_json
@pass_context
def incidents(context: Context, everything: bool, as_json: bool) -> None:
    """List the incidents that are open, and who has taken them."""
    from monitor import terminal
    client = context.client()
    found = client.get("/api/v1/incidents" + ("" if everything else "?open=true"))["incidents"]
    if as_json:
        show(found)
        return
    active = [silence for silence in client.get("/api/v1/silences")["silences"] if silence["active"]]
    terminal.incidents(found, {name for silence in active for name in silence["matches"]})


@click.command()
@click.argument("incident")
@as_json
@pass_context
def ack(context: Context, incident: str, as_json: bool) -> None:
    """Say that you have taken INCIDENT (its ID, or the beginning of it): its reminders end."""
    client = context.client()
    facts = client.post(f"{_incident(client, incident)}/ack")
    show(facts) if as_json else click.echo(f"{facts['id']}: taken by {facts['acked_by']}")


@click.command()
@click.argument("incident")
@click.argument("feedback", metavar="useful|false", type=click.Choice(["useful", "false"]))
@as_json
@pass_context
def feedback(context: Context, incident: str, feedback: str, as_json: bool) -> None:
    """Say whether the page of INCIDENT was of use, or a false alarm."""
    client = context.client()
    facts = client.post(f"{_incident(client, incident)}/feedback", {"feedback": feedback})
    show(facts) if as_json else click.echo(f"{facts['id']}: {facts['feedback']}")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--for", "seconds", metavar="2h", required=True, help="For how long.")
@click.option("--reason", metavar="WHY", required=True, help="Why; recorded, and shown to others.")
@as_json
@pass_context
def silence(context: Context, names: tuple[str, ...], seconds: str, reason: str, as_json: bool) -> None:
    """Page nobody for these probes for a while. NAME may be a pattern, such as "checkout-*". Probing goes on."""
    from monitor import terminal
    facts = context.client().post("/api/v1/silences", {"probes": list(names), "for": seconds, "reason": reason})
    show(facts) if as_json else click.echo(f"{facts['id']}: {', '.join(facts['matches'])} silenced until {terminal.moment(facts['ends'])}")


@click.command()
@as_json
@pass_context
def silences(context: Context, as_json: bool) -> None:
    """List the silences that hold, and those of the last week."""
    from monitor import terminal
    found = context.client().get("/api/v1/silences")["silences"]
    show(found) if as_json else terminal.silences(found)


@click.command()
@click.argument("silence_id", metavar="ID")
@as_json
@pass_context
def unsilence(context: Context, silence_id: str, as_json: bool) -> None:
    """End a silence (its ID, or the beginning of it). What still lasts is paged."""
    client = context.client()
    found = _one(client.get("/api/v1/silences")["silences"], silence_id, "silence")
    facts = client.post(f"/api/v1/silences/{quote(found, safe='')}/end")
    show(facts) if as_json else click.echo(f"{facts['id']}: ended")


VERBS = (incidents, ack, feedback, silence, silences, unsilence)


def _incident(client: Client, start: str) -> str:
    """Where the API has the incident whose identifier begins so."""
    return f"/api/v1/incidents/{quote(_one(client.get('/api/v1/incidents')['incidents'], start, 'incident'), safe='')}"


def _one(found: Iterable[dict[str, Any]], start: str, what: str) -> str:
    """The only identifier that begins so. Raises CommandError."""
    ids = [str(one["id"]) for one in found if start and str(one["id"]).startswith(start.lower())]
    if not ids:
        raise CommandError(api.WRONG_PHASE, f"there is no {what} {start}")
    if len(ids) > 1:
        raise CommandError(api.USAGE, f"{len(ids)} {what}s begin with {start}: write more of it")
    return ids[0]
