"""When the certificates of a connection expire."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime


def chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server sent, leaf first, in DER."""
    public = getattr(sock, "get_unverified_chain", None)       # Python 3.13
    if public is not None:
        return list(public())
    # Before 3.13 only the inner object has it. Without it the leaf alone is better than nothing.
    inner = getattr(getattr(sock, "_sslobj", None), "get_unverified_chain", lambda: None)()
    if inner:
        return [certificate.public_bytes(_DER) for certificate in inner]
    leaf = sock.getpeercert(binary_form=True)
    return [leaf] if leaf else []


def earliest_expiry(certificates: list[bytes]) -> float:
    """Unix time at which the first of these certificates expires; 0 when none of them can be read."""
    return min(filter(None, map(not_after, certificates)), default=0.0)


def not_after(certificate: bytes) -> float:
    """Unix time at which a DER certificate expires (RFC 5280 §4.1.2.5), 0 when it cannot be read.

    Read by hand: `getpeercert()` tells it only of the leaf, and only when the certificate was verified.
    """
    try:
        inside = _value(_value(certificate, 0), 0)                          # Certificate > TBSCertificate
        fields = [field for field in _fields(inside) if field[0] != 0xA0]   # without the optional version
        validity = fields[3][1]                                             # after serial number, algorithm and issuer
        tag, text = list(_fields(validity))[1]
        form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"          # UTCTime or GeneralizedTime
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return 0.0


_DER = 2     # _ssl.ENCODING_DER


def _value(data: bytes, at: int) -> bytes:
    return next(_fields(data[at:]))[1]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each DER element, one after the other."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        yield tag, data[at : at + length]
        at += length
