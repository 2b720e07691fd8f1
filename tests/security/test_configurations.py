"""A configuration that is wrong is refused without its secrets being shown, wherever somebody has put them by mistake (T84)."""

from pathlib import Path

import pytest

from monitor.config import ConfigError, load

SECRET = "cnry-9f8e7d6c5b4a"
RIGHT = '[shop]\nname = "s"\nurl = "https://shop.example"\n[[probe]]\nname = "p"\nkind = "http"\nurl = "https://shop.example/"\n'
WRONG = {
    "a number for a secret": ('[[token]]\nname = "t"\nvalue = 98765432109876\n', "98765432109876"),
    "an array for a secret": (f'[[token]]\nname = "t"\nvalue = ["{SECRET}"]\n', SECRET),
    "a place that is none": (f'[[token]]\nname = "t"\nvalue = {{ evn = "{SECRET}" }}\n', SECRET),
    "two places": (f'[[token]]\nname = "t"\nvalue = {{ env = "A", file = "{SECRET}" }}\n', SECRET),
    "an unknown key": (f'[[token]]\nname = "t"\nvaule = "{SECRET}"\n', SECRET),
    "an address that is none": (f'[[receiver]]\nname = "r"\nkind = "webhook"\nurl = "htp://x/{SECRET}"\nsecret = "whsec_aaaa"\n', SECRET),
    "a heartbeat without scheme": (f'[heartbeat]\nurl = "hc.example/{SECRET}"\n', SECRET),
    "a password in the shop's address": (RIGHT.replace('https://shop.example"\n[[', f'https://u:{SECRET}@shop.example"\n[['), SECRET),
    "a password in our own address": (f'[web]\nurl = "https://u:{SECRET}@till.example"\n', SECRET),
    "a password in a probe's address": (RIGHT.replace("https://shop.example/", f"https://u:{SECRET}@shop.example/"), SECRET),
    "a login in one string": (RIGHT + f'basic_auth = "{SECRET}"\n', SECRET),
    "a header that is none": (RIGHT + f'headers = {{ Authorization = ["{SECRET}"] }}\n', SECRET),
    "a missing quotation mark": (f'[[token]]\nname = "t"\nvalue = "{SECRET}\n', SECRET),
    "the same key twice": (f'[[token]]\nname = "t"\nvalue = "a"\nvalue = "{SECRET}"\n', SECRET),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_does_not_show_the_secret(tmp_path: Path, case: str) -> None:
    text, secret = WRONG[case]
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(text if text.startswith("[shop]") else RIGHT + text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert secret not in str(refused.value)
    assert secret not in repr(refused.value.problems)


def test_settings_that_are_printed_show_no_secret(tmp_path: Path) -> None:
    """As a debugger or a careless log line would: repr, str, and as JSON."""
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(RIGHT + f'bearer_token = "{SECRET}"\n[[token]]\nname = "t"\nvalue = "{SECRET}"\n[heartbeat]\nurl = "https://hc.example/{SECRET}"\n')
    config = load(path)
    for shown in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert SECRET not in shown
