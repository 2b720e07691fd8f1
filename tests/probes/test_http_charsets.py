"""Pages in other charsets than UTF-8: those of browsers are read, whatever else a shop names does no harm."""

from collections.abc import Awaitable, Callable
from time import thread_time
from typing import Any

import pytest
from loopback import Shop, page
from yarl import URL

from probes import http_expect
from probes.http_exchange import Answer, Request
from probes.http_expect import Expect, expectations
from probes.sample import Outcome, Sample

Ask = Callable[..., Awaitable[Sample]]
Serve = Callable[..., Awaitable[Shop]]

HOP = Request(URL("http://shop.example/"), "GET", (), b"").first()
USELESS = [
    "punycode", "undefined", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "hex",
    "zlib", "rot13", "mbcs", "x-user-defined", "no-such",
]
BIG = 2_000_000


def html(body: bytes, charset: str) -> bytes:
    return page(body, "200 OK", f"Content-Type: text/html; charset={charset}")


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("latin-1", "latin-1", "Café"),
        ("ISO-8859-1", "latin-1", "Café"),
        ("iso_8859-15", "iso8859-15", "10 €"),
        ('"windows-1252"', "cp1252", "10 € – Café"),
        ("iso-8859-1", "cp1252", "10 €"),                   # as browsers read it
        ("windows-1251", "cp1251", "Корзина"),
        ("koi8-r", "koi8-r", "Корзина"),
        ("iso-8859-2", "iso8859-2", "Košík"),
        ("gb18030", "gb18030", "加入购物车"),
        ("gb2312", "gb2312", "加入购物车"),
        ("GBK", "gbk", "加入购物车"),
        ("big5", "big5", "加入購物車"),
        ("shift_jis", "shift_jis", "カートに入れる"),
        ("Shift-JIS", "shift_jis", "カートに入れる"),
        ("euc-jp", "euc_jp", "カートに入れる"),
        ("euc-kr", "euc_kr", "장바구니"),
        ("utf-16le", "utf-16-le", "Café"),
        ("utf-8", "utf-8", "Café"),
        ("punycode", "utf-8", "Café"),                      # no charset: the bytes as they are
    ],
)
async def test_text_is_found_in_its_charset(serve: Serve, ask: Ask, charset: str, codec: str, text: str) -> None:
    url = f"http://127.0.0.1:{(await serve(html(f'<p>{text}</p>'.encode(codec), charset))).port}/"
    for expect in ({"body_contains": [text]}, {"body_matches": [text]}):
        sample = await ask(url, expect=expect)
        assert sample.outcome is Outcome.OK, sample.evidence
    assert (await ask(url, expect={"body_not_contains": [text]})).reason == "body"


@pytest.mark.parametrize("charset", USELESS)
async def test_a_useless_charset_gives_an_ordinary_outcome(serve: Serve, ask: Ask, charset: str) -> None:
    url = f"http://127.0.0.1:{(await serve(html(b'Add to basket', charset))).port}/"
    sample = await ask(url, expect={"body_contains": ["basket"], "body_not_contains": ["Fatal error"]})
    assert sample.outcome is Outcome.OK, sample.evidence
    sample = await ask(url, expect={"body_contains": ["Sold out"]})
    assert (sample.reason, sample.outcome) == ("body", Outcome.FAILED), sample.evidence


@pytest.mark.parametrize("charset", ["punycode", "windows-1253", "iso-8859-8", "shift_jis", "gb18030", "utf-16le"])
@pytest.mark.parametrize("byte", [b"a", b"\xff", b"\xd8\xdf"])
async def test_a_large_page_takes_no_time(charset: str, byte: bytes) -> None:
    answer = Answer(HOP, 200, "OK", 1.1, {"Content-Type": f"text/html; charset={charset}"}, (byte * BIG)[:BIG])
    wanted = expectations(Expect(body_not_contains=("none", "of", "these", "\u00e9"), body_contains=("Café",)))
    took = []
    for _ in range(3):                           # the best of three: neighbours spoil the caches
        began = thread_time()
        fault = wanted.fault(answer)
        took.append(thread_time() - began)
        assert fault is not None
        assert fault.reason == "body"
    assert min(took) < (0.1 if charset == "punycode" else 0.4)      # decoding 2 MB takes 10 to 60 ms on a quiet machine


async def test_a_page_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Answer] = []

    def counting(answer: Answer) -> bytes:
        decoded.append(answer)
        return original(answer)

    original: Any = http_expect._as_utf8
    monkeypatch.setattr(http_expect, "_as_utf8", counting)
    wanted = expectations(Expect(body_not_contains=("a", "b"), body_contains=("é", "É"), body_matches=("[éÉ]",)))
    assert wanted.fault(Answer(HOP, 200, "OK", 1.1, {"Content-Type": "text/html; charset=latin-1"}, "éÉ".encode("latin-1"))) is None
    assert len(decoded) == 1


def test_every_codec_exists() -> None:
    for codec in http_expect._ONE_BYTE:
        assert len(http_expect._characters(codec)) == 256
    for codec in http_expect._MORE_BYTES:
        assert "a".encode(codec).decode(codec) == "a"
