"""Runs Playwright's recorder, and writes what it recorded as a flow."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, cast

import click

from monitor import client
from monitor.client import CommandError
from monitor.flows.recording import NoRecordingError, convert
from probes.checkout.browsers import NoBrowserError, find
from probes.checkout.job import Launch
from probes.scrub import scrub

_NO_SCREEN = (
    "recording needs a screen, and there is none here. Record on a laptop (pip install tillwatch; tillwatch flow record {url} -o flow.py) and copy "
    "flow.py here, or come with `ssh -X`. What `playwright codegen --target python-async` recorded elsewhere is taken with --from FILE"
)


def record(url: str, browser: str, device: str, executable_path: str) -> str:
    """What Playwright recorded until its window was closed. Raises CommandError."""
    if not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        raise CommandError(client.USAGE, _NO_SCREEN.format(url=url))
    try:
        found = find(Launch(cast("Literal['chromium']", browser), executable_path, headed=True))
    except NoBrowserError as error:
        raise CommandError(client.USAGE, str(error)) from None
    with tempfile.TemporaryDirectory(prefix="tillwatch-record-") as folder:            # the recording holds what was typed
        recorded = Path(folder) / "recorded.py"
        command = [sys.executable, "-m", "playwright", "codegen", "--target", "python-async", "--output", str(recorded), "--browser", browser]
        command += ["--device", device] if device else []
        command += ["--channel", found.channel] if found.channel else []
        # The recorder has no option for the browser's program; this variable is how Playwright's own tests name it.
        environment = os.environ | ({"PWTEST_CLI_EXECUTABLE_PATH": found.path} if found.path else {})
        click.echo(f"{found.words} opens {url}: buy something there, then close its window.", err=True)
        done = subprocess.run([*command, url], env=environment, stderr=subprocess.PIPE, text=True, errors="replace", check=False)  # noqa: S603
        if not recorded.is_file():
            raise CommandError(client.INCONCLUSIVE, f"nothing was recorded: {scrub(done.stderr) or 'the browser was closed at once'}")
        return recorded.read_text("utf-8", "replace")


def write(recorded: str, output: Path) -> None:
    """The flow into a file that is not there yet, or to standard output."""
    to_stdout = str(output) == "-"
    if not to_stdout and output.exists():
        raise CommandError(client.USAGE, f"{output} is there already: name another file with -o")
    try:
        text = convert(recorded, "flow.py" if to_stdout else output.name)
    except NoRecordingError as error:
        raise CommandError(client.USAGE, str(error)) from None
    if to_stdout:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(client.USAGE, f"{output}: {error.strerror}") from None
    click.echo(f"{output}: written. Go through its TODOs, then: tillwatch flow check {output}", err=True)
