"""Kettle & Leaf, the bundled shop: a small coffee and tea shop on loopback that can be updated, well or badly.

Run it with `python -m monitor.demo.shop --dir DIR`, and put a release live with `... shop deploy 1.1 --dir DIR`.
"""

import asyncio
import json
import signal
from pathlib import Path

import click
from aiohttp import web

from monitor.demo import checkout, pages
from monitor.demo.releases import FIRST, RELEASES, Deployed, deploy
from monitor.demo.shop_logs import CombinedLogger, open_logs

GRACE = 0.5                 # s that open requests have when the shop is stopped
LARGEST_BODY = 16 * 1024
FOLDER = click.Path(file_okay=False, path_type=Path)


def build_app(folder: Path, payment_failures: float) -> web.Application:
    """The shop as a web application; `folder` holds its release and its logs."""
    app = web.Application(middlewares=[pages.apologise], client_max_size=LARGEST_BODY)
    app[pages.SHOP] = pages.Shop(Deployed(folder), payment_failures, pages.load_templates())
    app.add_routes(pages.routes)
    app.add_routes(checkout.routes)
    return app


async def serve(folder: Path, port: int, payment_failures: float) -> None:
    """Serves until SIGTERM or SIGINT, and says in one line of JSON on stdout when and where it listens."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    app = build_app(folder, payment_failures)
    runner = web.AppRunner(app, access_log_class=CombinedLogger, access_log=open_logs(folder), shutdown_timeout=GRACE)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(json.dumps({"ready": True, "port": runner.addresses[0][1]}), flush=True)
        await stopped.wait()
    finally:
        await runner.cleanup()


@click.group(invoke_without_command=True)
@click.option("--dir", "folder", type=FOLDER, help="Where the release and the logs stand; made when missing.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--release", type=click.Choice(list(RELEASES)), help="Put live at the start; else the last deployed.")
@click.option("--payment-failures", type=click.FloatRange(0, 1), default=0.45, show_default=True,
              help="The share of payments that fail under release 2.0.")
@click.pass_context
def main(context: click.Context, folder: Path | None, port: int, release: str | None, payment_failures: float) -> None:
    """Runs the bundled shop on loopback."""
    if context.invoked_subcommand:
        return
    if folder is None:
        raise click.UsageError("Missing option '--dir'.")
    folder.mkdir(parents=True, exist_ok=True)
    if release or not (folder / "release").exists():
        deploy(folder, release or FIRST)
    try:
        asyncio.run(serve(folder, port, payment_failures))
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}") from error


@main.command("deploy")
@click.argument("release", type=click.Choice(list(RELEASES)))
@click.option("--dir", "folder", type=click.Path(file_okay=False, exists=True, path_type=Path), required=True)
def deploy_command(release: str, folder: Path) -> None:
    """Puts RELEASE live in the running shop, from its next request on."""
    before = deploy(folder, release)
    print(json.dumps({"deployed": release, "before": before}))


if __name__ == "__main__":
    main()
