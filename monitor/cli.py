"""The command `tillwatch`: thin verbs. Exit codes mean the same everywhere (docs/cli.md)."""

import asyncio
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from monitor import client as api
from monitor import operate
from monitor.client import CommandError
from monitor.command import Context, as_json, pass_context, problems, show
from monitor.flows.verbs import flow


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-c", "--config", metavar="FILE", help="Configuration [default: $TILLWATCH_CONFIG, ./config.toml, /etc/tillwatch/config.toml].")
@click.option("--url", metavar="URL", help="The daemon to talk to [default: $TILLWATCH_URL, else the configuration's [web] listen].")
@click.version_option(package_name="tillwatch", prog_name="tillwatch")
@click.pass_context
def main_group(context: click.Context, config: str | None, url: str | None) -> None:
    """Watches an online shop through its updates, and pages on-call when one made it worse.

    \b
    Exit codes: 0 done or pass, 1 the answer is bad, 2 usage or configuration, 3 refused by preflight,
    4 inconclusive or could not measure, 5 daemon not reachable, 6 not authorised, 7 no such update or
    another phase, 70 unexpected error, 124 timed out, 130 interrupted.
    """
    context.obj = Context(config, url)


@main_group.command()
@click.option("--debug", is_flag=True, help="Log every probe run.")
@pass_context
def run(context: Context, debug: bool) -> None:
    """Run the daemon in the foreground. SIGTERM or SIGINT stops it in order."""
    import logging

    from monitor import app, logs
    from monitor.store import StoreError
    from probes.fields import SecretError
    config = context.config()
    logs.configure(config.daemon.log_format, logging.DEBUG if debug else logging.INFO)
    try:
        app.run(config)
    except (SecretError, StoreError) as error:
        raise CommandError(api.USAGE, str(error)) from None
    except OSError as error:
        raise CommandError(api.USAGE, f"cannot start: {error}") from None


@main_group.command("check-config")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of config.toml, for editors.")
@as_json
@pass_context
def check_config(context: Context, schema: bool, as_json: bool) -> None:
    """Check the configuration: every problem at once, each with its file, line and key."""
    from monitor import config as configuration
    if schema:
        show(configuration.schema())
        return
    try:
        config = configuration.load(context.path)
    except configuration.ConfigError as error:
        if as_json:
            show({"ok": False, "problems": [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in error.problems]})
            sys.exit(api.USAGE)
        raise problems(error, context.path) from None
    if as_json:
        show({"ok": True, "warnings": list(config.warnings), "probes": len(config.probe), "receivers": len(config.receiver)})
        return
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    from monitor import observation
    from monitor.config_words import counted
    click.echo(f"{context.path}: ok ({counted(len(config.probe), 'probe')}, {counted(len(config.receiver), 'receiver')})")
    click.echo(observation.sentence(config))


@main_group.command()
@click.argument("name")
@click.option("--device", default="", metavar="DEVICE", help="checkout: one of the probe's devices [default: the first].")
@click.option("--headed", is_flag=True, help="checkout: show the browser.")
@click.option("--slow-mo", type=click.FloatRange(0, 60_000), default=0.0, metavar="MS", help="checkout: so many milliseconds between what it does.")
@click.option("--trace", is_flag=True, help="checkout: keep Playwright's trace of the run.")
@click.option("--evidence", type=click.Path(file_okay=False, path_type=Path), help="checkout: where screenshots are put [default: a new folder].")
@as_json
@pass_context
def probe(
    context: Context, name: str, device: str, headed: bool, slow_mo: float, trace: bool, evidence: Path | None, as_json: bool,
) -> None:
    """Run the probe NAME once, without a daemon, and print all it measured.

    Exit code 0 when it is ok, 1 failed, 4 broken (we could not measure), 2 when there is no such probe.
    """
    from monitor import once
    shown = once.as_text
    config = context.config()
    found = next((p for p in config.probe if p.name == name), None)
    if found is None:
        raise CommandError(api.USAGE, f"there is no probe {name!r}; there are: {', '.join(p.name for p in config.probe)}")
    if found.kind == "checkout":
        from monitor import by_hand
        from probes.checkout.probe import Manner
        if device and device not in found.devices:
            raise CommandError(api.USAGE, f"{name} has no device {device!r}; it has: {', '.join(found.devices) or 'none'}")
        manner = Manner(headed, slow_mo / 1000, trace)
        sample, shown = asyncio.run(by_hand.run(config, found, device=device, manner=manner, evidence=evidence)), by_hand.as_text
    else:
        sample = asyncio.run(once.run(found))
    show(once.as_dict(sample)) if as_json else click.echo(shown(sample))
    sys.exit({"ok": 0, "failed": api.BAD, "broken": api.INCONCLUSIVE}[sample.outcome.value])


@main_group.command()
@click.option("--listen", "socket", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="SOCKET", help="Unix socket to serve at.")
@pass_context
def browser(context: Context, socket: Path) -> None:
    """Serve the browser for checkout probes, apart from the daemon, whose [browser] socket names SOCKET.

    It reads no configuration unless -c names one: which browser and whether it has its sandbox is told by the daemon with each run.
    SIGTERM or SIGINT stops it in order.
    """
    from monitor import browser_unit
    from probes.checkout.server import ServedError
    from probes.checkout.settings import BrowserSettings
    settings = context.config().browser if context.named else BrowserSettings()
    try:
        browser_unit.run(socket, settings)
    except ServedError as error:
        raise CommandError(api.USAGE, f"cannot serve: {error}") from None


main_group.add_command(flow)


@main_group.group()
def update() -> None:
    """Tell the daemon of an update of the shop, and see what it did to the shop."""


@update.command()
@click.argument("version")
@click.option("--change", "changes", multiple=True, metavar="NAME@VERSION", help="A part that the update changes; may be repeated.")
@click.option("--phase", default="all", show_default=True, help="The first phase, such as canary.")
@click.option("--expect-downtime", default="", metavar="5m", help="Downtime that is announced: its failing pages nobody.")
@click.option("--link", default="", help="Where people read more: a release, a ticket.")
@click.option("--override", default="", metavar="WHY", help="Start although the preflight objects; recorded.")
@as_json
@pass_context
def start(
    context: Context, version: str, changes: tuple[str, ...], phase: str, expect_downtime: str, link: str, override: str, as_json: bool,
) -> None:
    """Open the update to VERSION: "before" is frozen now, and watching begins. Prints its ID."""
    body: dict[str, Any] = {"version": version, "phase": phase, "link": link, "override": override}
    body["changes"] = [dict(zip(("name", "version"), change.partition("@")[::2], strict=True)) for change in changes]
    if expect_downtime:
        body["expect_downtime"] = expect_downtime
    facts = context.client().post("/api/v1/updates", body)
    show(facts) if as_json else click.echo(facts["id"])


def _act(name: str, help_text: str) -> None:
    @update.command(name, help=help_text)
    @click.argument("update_id", metavar="[ID]", default="newest")
    @as_json
    @pass_context
    def act(context: Context, update_id: str, as_json: bool) -> None:
        facts = context.client().post(api.update_path(update_id, f"/{name}"))
        show(facts) if as_json else click.echo(f"{facts['id']}: {facts['status']}")


_act("finish", "Say that the update is rolled out everywhere: observation begins, and it can pass.")
_act("rollback", "Say that the update was taken back: recovery is watched for.")
_act("cancel", "Say that the update did not take place.")


@update.command("phase")
@click.argument("name")
@click.argument("update_id", metavar="[ID]", default="newest")
@as_json
@pass_context
def next_phase(context: Context, name: str, update_id: str, as_json: bool) -> None:
    """Say that the update is in its next phase, NAME."""
    facts = context.client().post(api.update_path(update_id, "/phase"), {"name": name})
    show(facts) if as_json else click.echo(f"{facts['id']}: phase {facts['phase']}")


@update.command("list")
@as_json
@pass_context
def list_updates(context: Context, as_json: bool) -> None:
    """List the updates, newest first."""
    from monitor import terminal
    found = context.client().get("/api/v1/updates")["updates"]
    show(found) if as_json else terminal.updates(found)


@update.command()
@click.argument("update_id", metavar="[ID]", default="newest")
@as_json
@pass_context
def status(context: Context, update_id: str, as_json: bool) -> None:
    """Show phase, verdict, and the evidence of every signal."""
    from monitor import terminal
    facts = context.client().get(api.update_path(update_id))
    show(facts) if as_json else terminal.status(facts)


@main_group.command()
@click.argument("update_id", metavar="[ID]", default="newest")
@click.option("--timeout", metavar="T", default="", help="Give up after this long [default: when the verdict must have fallen, and 5m].")
@click.option("--on-inconclusive", type=click.Choice(["fail", "pass"]), default="fail", show_default=True)
@click.option("--output", type=click.Choice(["table", "json", "junit", "github"]), default="table", show_default=True)
@pass_context
def gate(context: Context, update_id: str, timeout: str, on_inconclusive: str, output: str) -> None:
    """Wait for the verdict, for a CI job. A regression ends the wait at once, a pass only after finish or expiry."""
    from monitor import gate as gates
    sys.exit(gates.wait(context.client(), update_id, timeout=timeout, lenient=on_inconclusive == "pass", output=output))


@main_group.command()
@click.argument("update_id", metavar="[ID]", default="newest")
@click.option("-o", "output", metavar="FILE", help="Where to write it: HTML, or Markdown when FILE ends in .md [default: update-ID.html].")
@pass_context
def report(context: Context, update_id: str, output: str | None) -> None:
    """Write the post-mortem of an update as one self-contained file."""
    found = context.client()
    id_ = found.get(api.update_path(update_id))["id"]
    path = Path(output or f"update-{id_}.html")
    text = found.text(api.update_path(id_, f"/report?format={'md' if path.suffix == '.md' else 'html'}"))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(api.USAGE, f"cannot write {path}: {error.strerror}") from None
    click.echo(str(path))


for verb in operate.VERBS:
    main_group.add_command(verb)


@main_group.command()
@click.option("--days", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Only the newest N days [default: all that is stored].")
@click.option("--csv", metavar="FILE", help="The history in FILE instead of the store: columns timestamp, ok, seconds; docs/cli.md has more.")
@click.option("--updates", type=click.IntRange(min=1), metavar="N", help="At most N updates [default: 200, fewer for many probes].")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes [default: one a core].")
@as_json
@pass_context
def backtest(context: Context, days: float | None, csv: str | None, updates: int | None, jobs: int | None, as_json: bool) -> None:
    """Replay updates that never were over the shop's own history: how often would it have paged, passed, found harm?

    Exit code 0 when it could be measured, whatever the answer, 4 when there is too little history.
    """
    from monitor.backtest import run as backtests
    backtests.run(context, days=days, csv=csv, updates=updates, jobs=jobs, as_json=as_json)


@main_group.group()
def logs() -> None:
    """Look at a shop's logs."""


@logs.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "format_", default="auto", show_default=True, help="How the lines are written, as in docs/configuration.md.")
@click.option("--level", type=click.Choice(["critical", "error", "warning"]), default="warning", show_default=True, help="The least that is counted.")
@click.option("--examples", is_flag=True, help="Show a line for each signature, without secrets and personal data.")
@click.option("--most", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="Signatures that are shown.")
@as_json
def scan(files: tuple[str, ...], format_: str, level: Any, examples: bool, most: int, as_json: bool) -> None:
    """Print the error signatures of FILEs, as the error_log probe would count them.

    Compressed files are unpacked; - is standard input. Exit code 0 whatever is found, 2 when a file cannot be read.
    """
    from monitor import logscan
    logscan.run(files, format_=format_, level=level, examples=examples, most=most, as_json=as_json)


@main_group.command("tell-failed", hidden=True)
@click.argument("unit")
@pass_context
def tell_failed(context: Context, unit: str) -> None:
    """Tell every receiver that the daemon itself has stopped: what tillwatch-failed.service runs."""
    from monitor import last_words
    sys.exit(last_words.tell(context.path, unit))


@main_group.command("test-alert")
@click.argument("receiver", required=False)
@as_json
@pass_context
def test_alert(context: Context, receiver: str | None, as_json: bool) -> None:
    """Send a marked drill through RECEIVER (through all, when none is named). 0 when every one took it."""
    from monitor import drill
    sys.exit(drill.send(context.config(), receiver, as_json=as_json))


@main_group.command()
@as_json
@pass_context
def doctor(context: Context, as_json: bool) -> None:
    """Look for what is wrong with this installation, and say how to mend it. 0, or 1 when there is a fault."""
    from monitor.doctor import examine
    sys.exit(examine.run(context.config(), as_json=as_json))


@main_group.command()
@click.option("--dir", "directory", metavar="DIR", help="Where shop, state and report go [default: a new folder under the system's temporary one].")
@click.option("--port", default=0, help="Port of the daemon [default: a free one].")
def demo(directory: str | None, port: int) -> None:
    """Play the whole story on this machine: a shop, its daemon, a bad update, the page, the rollback, the report."""
    from monitor.demo import story
    sys.exit(story.play(Path(directory) if directory else None, port))


def main() -> None:
    """Entry point: turns every way to end into its exit code."""
    try:
        code = main_group.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except CommandError as error:
        click.echo(f"tillwatch: {error}", err=True)
        sys.exit(error.code)
    except click.ClickException as error:
        error.show()
        sys.exit(api.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("tillwatch: interrupted", err=True)
        sys.exit(api.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception:  # noqa: BLE001 - the last door: our own fault has an exit code of its own
        from probes.scrub import redact
        click.echo(redact(traceback.format_exc()), err=True, nl=False)
        sys.exit(api.UNEXPECTED)


if __name__ == "__main__":
    main()
