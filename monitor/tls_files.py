"""Certificates and keys that the configuration names: what is none is a mistake, found before nothing can be measured any more."""

import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from probes.clients import TlsSettings

Files = tuple[Path | None, Path | None, Path | None]      # ca_file, cert_file, key_file


def faults(table: str, items: Iterable[BaseModel | None]) -> Iterator[tuple[tuple[str | int, ...], OSError]]:
    """Key path of every file that cannot be used, and why: ssl.SSLError when it can be read."""
    known: dict[Files, tuple[str, OSError] | None] = {}
    for index, item in enumerate(items):
        tls, ca_file = getattr(item, "tls", None), getattr(item, "ca_file", None)
        inner = isinstance(tls, TlsSettings)
        files = (tls.ca_file, tls.cert_file, tls.key_file) if isinstance(tls, TlsSettings) else (ca_file, None, None)
        if files not in known:
            known[files] = _fault(*files)
        if found := known[files]:
            yield (table, index, *(("tls",) if inner else ()), found[0]), found[1]


def why(error: OSError) -> str:
    """In words; OpenSSL's own are for programmers."""
    if isinstance(error, ssl.SSLError):
        return "is no certificate or key in PEM form without a passphrase, or the two do not belong together"
    return f"cannot be read: {error.strerror}"


def _fault(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> tuple[str, OSError] | None:
    """The key whose file cannot be used."""
    context, key = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ca_file"
    try:
        if ca_file:
            context.load_verify_locations(_there(ca_file))
        key = "key_file"
        if key_file:
            _there(key_file)
        key = "cert_file"
        if cert_file:
            context.load_cert_chain(_there(cert_file), key_file, password=lambda: "")      # else OpenSSL asks for it on the terminal
    except OSError as error:
        return key, error
    return None


def _there(path: Path) -> Path:
    """Raises OSError when it is no file that can be read. A pipe could be waited for, for ever."""
    if path.exists() and not path.is_file():
        raise ssl.SSLError(f"{path} is no file")
    path.open("rb").close()
    return path
