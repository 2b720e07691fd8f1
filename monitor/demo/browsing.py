"""The part of the story that needs a browser: a guest who buys tea, in both forms of a flow."""

import os
import sys
from pathlib import Path

from probes.checkout import browsers
from probes.checkout.job import Launch

DECLARED = "declared.toml"
_FLOW = "checkout.py"

# The daemon walks the Python file, to the end; `tillwatch probe` the declared steps, as far as payment.
_CHECKOUT = """\
[[probe]]
name = "checkout"
kind = "checkout"
interval = "6s"
timeout = "6s"
step_timeout = "4s"
means = "customers cannot pay"
flow = "checkout.py"
stop_before = ""                    # it places orders, and takes them back
hosts = ["127.0.0.1"]
secrets = {{ card = "4242 4242 4242 4242" }}
cleanup = {{ url = "http://127.0.0.1:{shop}/order/{{order}}/cancel" }}

[browser]
no_sandbox = {no_sandbox}
"""
_DECLARED = """\
[shop]
name = "kettle-and-leaf"
url = "http://127.0.0.1:{shop}"

[daemon]
state_dir = "state"

[browser]
no_sandbox = {no_sandbox}

[[probe]]
name = "as-far-as-payment"
kind = "checkout"
timeout = "20s"
secrets = {{ card = "4242 4242 4242 4242" }}

"""


def missing() -> str:
    """Why there can be no browser here, and how there could; "" when there is one."""
    try:
        browsers.find(Launch())
    except browsers.NoBrowserError as error:
        return str(error)
    return ""


def write(directory: Path, shop: int) -> str:
    """Write the flow, and the configuration with its declared form; the tables for the daemon's configuration."""
    told = {"shop": shop, "no_sandbox": "true" if os.geteuid() == 0 else "false"}        # Chromium has no sandbox as root
    own = _flows()
    (directory / _FLOW).write_text((own / _FLOW).read_text(encoding="utf-8"), encoding="utf-8")
    steps = (own / "checkout.toml").read_text(encoding="utf-8")
    path = directory / DECLARED
    path.touch(mode=0o600)
    path.write_text(_DECLARED.format(**told) + steps[steps.index("\n[[probe.step]]\n"):], encoding="utf-8")
    return _CHECKOUT.format(**told)


def _flows() -> Path:
    """The flows that come with Tillwatch: beside its source, or where it is installed."""
    source = Path(__file__).parents[2] / "flows"
    return source if source.is_dir() else Path(sys.prefix) / "share" / "tillwatch" / "flows"
