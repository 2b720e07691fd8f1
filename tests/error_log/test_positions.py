"""Checkpoints: what goes in comes out, and what is no checkpoint says so."""

import os

from hypothesis import given
from hypothesis import strategies as st

from probes.error_log.positions import Position, Positions, Unreadable, decode, digest, encode

AT = Position("/var/log/shop/app.log", 64_512, 1 << 40, 1 << 50, digest(b"head"), 1024, digest(b"tail"), 256,
              1.75e9, True, 1_750_000_000_123_456_789, 1.75e9)
WHOLE = Positions((AT, AT._replace(path=os.fsdecode(b"/logs/\xff\xfe.log"), head=b"", head_size=0, tail=b"", tail_size=0, packed=True, done=True),
                   AT._replace(idle=True, copy=True)), ("/var/log/shop/*.log", "/ü/**"))


def test_what_goes_in_comes_out() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    assert decode(encode(Positions())) == Positions()


def test_a_thousand_files_are_150_kb() -> None:
    files = tuple(AT._replace(path=f"/var/log/shop/service-{number:04d}/error.log", inode=number) for number in range(1000))
    assert len(encode(Positions(files))) < 150_000


@given(st.binary(max_size=400))
def test_garbage_is_unreadable(data: bytes) -> None:
    assert isinstance(decode(data), Unreadable)


@given(st.integers(0, len(encode(WHOLE)) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(encode(WHOLE))
    data[place] ^= change
    assert isinstance(decode(bytes(data)), Unreadable)


def test_cut_off_at_any_place() -> None:
    data = encode(WHOLE)
    assert all(isinstance(decode(data[:end]), Unreadable) for end in range(len(data)))


def test_reasons_say_what_is_wrong() -> None:
    data = encode(WHOLE)
    assert decode(b"") == Unreadable("the checkpoint is too short")
    assert decode(b"\x07" + data[1:]) == Unreadable("the checkpoint is of another version, 7")
    assert decode(data[:-1]) == Unreadable("the checkpoint is damaged")
