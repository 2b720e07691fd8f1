"""TLS servers with every fault that a certificate or a handshake can have."""

import datetime as dt
import ssl
import subprocess
import warnings
from base64 import encodebytes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

HOST = "127.0.0.1"
_HUGE = 10_000              # bits: the largest Diffie-Hellman group that OpenSSL would take part in


@dataclass
class Certificates:
    """An authority, and server contexts with what it signed. `folder` takes the files."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.ca_file = str(self.folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        (self.folder / "ca.key").write_bytes(self.authority.private_key_pem.bytes())

    def good(self, *names: str, starts: float = -1, days: float = 90, ca: trustme.CA | None = None, **keys: Any) -> ssl.SSLContext:
        """A context whose certificate is valid from and until so many days from now."""
        now = dt.datetime.now(dt.UTC)
        begin, end = now + dt.timedelta(days=starts), now + dt.timedelta(days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (ca or self.authority).issue_cert(*(names or (HOST,)), not_before=begin, not_after=end, **keys).configure_cert(context)
        return context

    def outdated(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A server that speaks nothing newer than this version."""
        context = self.good()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        return context

    def weak(self, name: str, *, key: str = "rsa:2048", digest: str = "sha256", own: bool = False) -> ssl.SSLContext:
        """A certificate made by OpenSSL, because trustme makes no weak ones; `own`: signed by itself."""
        here = self.folder / name
        names = here.with_suffix(".names")
        names.write_text(f"subjectAltName=IP:{HOST}\n")
        pair = ["-newkey", key, "-nodes", "-subj", "/CN=shop", "-keyout", f"{here}.key"]
        if own:
            self._openssl("req", "-x509", f"-{digest}", *pair, "-days", "30", "-addext", f"subjectAltName=IP:{HOST}", "-out", f"{here}.pem")
        else:
            self._openssl("req", *pair, "-out", f"{here}.csr")
            self._openssl("x509", "-req", f"-{digest}", "-in", f"{here}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                          "-days", "30", "-extfile", str(names), "-out", f"{here}.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(f"{here}.pem", f"{here}.key")
        return context

    def long(self, size: int) -> ssl.SSLContext:
        """A good certificate, followed by a chain of `size` bytes."""
        leaf, one = self.authority.issue_cert(HOST), self.authority.cert_pem.bytes()
        path = self.folder / f"long-{size}.pem"
        der = len(ssl.PEM_cert_to_DER_cert(one.decode()))
        path.write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes() + one * (size // der))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def heavy(self) -> ssl.SSLContext:
        """Classic Diffie-Hellman in a group so large that a client which takes part computes for a second."""
        context = self.good(key_type=trustme.KeyType.RSA)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DHE:@SECLEVEL=0")
        numbers = _integer((1 << (_HUGE - 1)) | 0x1_0000_0001) + _integer(2)
        path = self.folder / "heavy.pem"
        body = encodebytes(b"\x30" + _length(len(numbers)) + numbers).decode()
        path.write_text(f"-----BEGIN DH PARAMETERS-----\n{body}-----END DH PARAMETERS-----\n")
        context.load_dh_params(path)
        return context

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


def _integer(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + _length(len(data)) + data


def _length(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(data)]) + data


def faulty(made: Certificates) -> list[tuple[str, ssl.SSLContext, str, dict[str, Any]]]:
    """Name, server context, reason, and further TLS settings of the probe."""
    return [
        ("expired", made.good(starts=-10, days=-1), "tls_expired", {}),
        ("not yet valid", made.good(starts=1), "tls_not_yet_valid", {}),
        ("of another host", made.good("other.example"), "tls_hostname", {}),
        ("of an unknown authority", made.good(ca=trustme.CA()), "tls_untrusted", {}),
        ("signed by itself", made.weak("self", own=True), "tls_untrusted", {}),
        ("signed with SHA-1", made.weak("sha1", digest="sha1"), "tls_untrusted", {}),
        ("with a key of 1024 bits", made.weak("short", key="rsa:1024"), "tls_untrusted", {}),
        ("that expires soon", made.good(days=5), "tls_min_days", {"min_days_left": 14}),
        ("over TLS 1.0", made.outdated(ssl.TLSVersion.TLSv1), "tls_protocol", {}),
        ("over TLS 1.1", made.outdated(ssl.TLSVersion.TLSv1_1), "tls_protocol", {}),
        ("with a chain of 60 kB", made.long(60_000), "", {}),
        ("with a chain of 120 kB", made.long(120_000), "tls_protocol", {}),
        ("with a heavy key exchange", made.heavy(), "tls_protocol", {}),
    ]
