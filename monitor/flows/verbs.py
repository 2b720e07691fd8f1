"""`tillwatch flow record` and `tillwatch flow check`."""

import sys
from pathlib import Path

import click

from monitor.command import as_json

FILE = click.Path(dir_okay=False, path_type=Path)
THERE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def flow() -> None:
    """Record a checkout flow, and check one without running it."""


@flow.command()
@click.argument("url", required=False)
@click.option("-o", "--output", type=FILE, default=Path("flow.py"), show_default=True, metavar="FILE", help="Where it goes; - is standard output.")
@click.option("--browser", type=click.Choice(["chromium", "firefox", "webkit"]), default="chromium", show_default=True)
@click.option("--device", default="", metavar="DEVICE", help='Play a phone or a tablet, by Playwright\'s name, such as "iPhone 15".')
@click.option("--executable-path", default="", metavar="PATH", help="The browser's program [default: the one that is found].")
@click.option("--from", "script", type=THERE, metavar="FILE", help="Record nothing, take what `playwright codegen --target python-async` wrote.")
def record(url: str | None, output: Path, browser: str, device: str, executable_path: str, script: Path | None) -> None:
    """Open URL in a browser, record what is done there until its window is closed, and write it as a flow.

    It needs a screen. Card numbers, passwords and e-mail addresses that are typed do not get into the file.
    """
    from monitor.flows import codegen
    if (url is None) == (script is None):
        raise click.UsageError("give the URL of the shop, or --from FILE")
    if url and not url.startswith(("https://", "http://")):
        raise click.UsageError("URL must begin with https:// or http://")
    text = script.read_text("utf-8", "replace") if script else codegen.record(url or "", browser, device, executable_path)
    codegen.write(text, output)


@flow.command()
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@click.option("--stop-before", default="payment", show_default=True, metavar="STEP",
              help='For FILEs in Python: the step that is not entered; "" for none.')
@as_json
def check(files: tuple[Path, ...], stop_before: str, as_json: bool) -> None:
    """Look at flows without running them: Python files, or configurations whose checkout probes are meant.

    Exit code 0 when there is nothing to mend, 1 when there is, 2 when a file cannot be read.
    """
    from monitor.flows import check as checks
    sys.exit(checks.run(files, stop_before, as_json=as_json))
