"""Walls against robots, and the shops behind the same services: an outage must not be taken for a wall."""

from collections.abc import Awaitable, Callable

import pytest
from loopback import Shop, page

from probes.sample import Outcome, Sample

Ask = Callable[..., Awaitable[Sample]]
Serve = Callable[..., Awaitable[Shop]]

# What each service has in the ordinary pages behind it.
TAGS = {
    "Cloudflare": "<script>a.src='/cdn-cgi/challenge-platform/h/b/scripts/jsd/main.js';</script>",
    "Turnstile": '<script src="https://challenges.cloudflare.com/turnstile/v0/api.js"></script><div class="cf-turnstile"></div>',
    "Imperva": '<script src="/_Incapsula_Resource?SWJIYLWA=719d34d31c8e3a6e6fffd425f7e032f3&ns=2&cb=1"></script>',
    "AWS WAF": '<script src="https://abc.eu-west-1.sdk.awswaf.com/abc/def/challenge.js" defer></script>',
    "AWS WAF captcha": '<script src="https://abc.eu-west-1.captcha-sdk.awswaf.com/abc/jsapi.js" defer></script>',
    "DataDome": "<script>window.ddjskey='A';</script><script src='https://js.datadome.co/tags.js'></script>"
                '<meta http-equiv="Content-Security-Policy" content="frame-src geo.captcha-delivery.com">',
    "HUMAN": "<script>window._pxAppId='PX1';</script><script src='/PX1/init.js'></script><style>#px-captcha{z-index:9}</style>",
    "Akamai": '<script src="/akam/13/5d9f"></script><!-- errors.edgesuite.net -->',
    "hCaptcha": '<script src="https://js.hcaptcha.com/1/api.js"></script><div class="h-captcha" data-sitekey="x"></div>',
    "reCAPTCHA": '<div class="g-recaptcha" data-sitekey="x"></div>',
}
MENU = "".join(f'<li><a href="/{number}">Shelf {number}</a></li>' for number in range(12))
PHP = "<b>Fatal error</b>: Uncaught Error: Call to a member function getPrice() on null in /var/www/Product.php:12"


def shop_page(tag: str, body: str, status: str) -> bytes:
    return page(f"<html><head><title>Our shop</title>{tag}</head><body>{body}</body></html>", status, "CF-RAY: 1-FRA", "x-cdn: Imperva")


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        ("500 Internal Server Error", PHP, "status"),
        ("502 Bad Gateway", "", "status"),
        ("503 Service Unavailable", PHP, "status"),
        ("404 Not Found", "Nothing here", "status"),
        ("403 Forbidden", f"<ul>{MENU}</ul>You may not see this", "status"),
        ("200 OK", PHP, "body"),
        ("200 OK", f"<ul>{MENU}</ul>" + "Sold out. " * 9_000, "body"),
    ],
)
async def test_an_outage_behind_a_wall_is_an_outage(serve: Serve, ask: Ask, tag: str, status: str, body: str, reason: str) -> None:
    shop = await serve(shop_page(tag, body, status))
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_contains": ["Add to basket"]})
    assert (sample.reason, sample.outcome) == (reason, Outcome.FAILED), sample.evidence


def imperva(code: int) -> str:
    return (
        '<html><head><META NAME="ROBOTS" CONTENT="NOINDEX, NOFOLLOW"></head><body><iframe id="main-iframe" src="/_Incapsula_Resource?CWUDNSAI=5'
        f'&xinfo=9-3-0&incident_id=0-11&edet={code}&cinfo=ff">Request unsuccessful. Incapsula incident ID: 0-11</iframe></body></html>'
    )


CHL = "<script>a.src='/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1?ray=9';</script>"
GOKU = '<script>window.gokuProps = {"key":"A"};</script><script src="https://a.token.awswaf.com/a/challenge.js"></script>'
DATADOME = "<title>shop.example</title><p id=cmsg>Please enable JS</p><script>var dd={'rt':'c','cid':'A','host':'geo.captcha-delivery.com'}</script>"
AKAMAI = "<TITLE>Access Denied</TITLE>Reference&#32;&#35;18 https&#58;&#47;&#47;errors&#46;edgesuite&#46;net&#47;18"
HUMAN = '<title>Access to this page has been denied</title><div id="px-captcha"></div>'
WALLS: list[tuple[str, str, bytes]] = [
    ("Cloudflare", "by header", page("", "403 Forbidden", "cf-mitigated: challenge")),
    ("Cloudflare", "by header, 503", page("", "503 Service Unavailable", "cf-mitigated: challenge")),
    ("Cloudflare", "by title", page("<title>Just a moment...</title>", "403 Forbidden")),
    ("Cloudflare", "by title, 503", page(f"<title>Just a moment...</title>{CHL}", "503 Service Temporarily Unavailable")),
    ("Cloudflare", "in another language", page(f"<title>Einen Moment, bitte...</title>{CHL}", "403 Forbidden")),
    ("Cloudflare", "blocked", page("<title>Attention Required! | Cloudflare</title>", "403 Forbidden")),
    ("AWS WAF", "by header, challenge", page("", "202 Accepted", "x-amzn-waf-action: challenge")),
    ("AWS WAF", "by header, captcha", page("", "405 Method Not Allowed", "x-amzn-waf-action: captcha")),
    ("AWS WAF", "by page", page(GOKU, "202 Accepted")),
    ("Imperva", "a captcha", page(imperva(12))),
    ("Imperva", "a rule", page(imperva(15), "403 Forbidden")),
    ("Imperva", "text only", page("Request unsuccessful. Incapsula incident ID: 742000230051442402", "403 Forbidden")),
    ("DataDome", "by page", page(DATADOME, "403 Forbidden")),
    ("DataDome", "for programs", page('{"url":"https://geo.captcha-delivery.com/captcha/?initialCid=A"}', "403 Forbidden")),
    ("HUMAN", "by title", page(HUMAN, "403 Forbidden")),
    ("a captcha", "HUMAN's under the shop's title", page('<title>Our shop</title><div id="px-captcha"></div>', "403 Forbidden")),
    ("a captcha", "hCaptcha", page('<title>One more step</title><div class="h-captcha"></div>', "403 Forbidden")),
    ("Akamai", "by page", page(AKAMAI, "403 Forbidden")),
    ("Sucuri", "by title", page("<title>Sucuri WebSite Firewall - Access Denied</title>", "403 Forbidden")),
    ("Anubis", "by title", page("<title>Making sure you&#39;re not a bot!</title>")),
    ("Vercel", "by title", page("<title>Vercel Security Checkpoint</title>", "403 Forbidden")),
    ("a rate limit", "by status", page("", "429 Too Many Requests")),
]


@pytest.mark.parametrize(("name", "answer"), [(row[0], row[2]) for row in WALLS], ids=[f"{row[0]} {row[1]}" for row in WALLS])
async def test_a_wall_is_a_wall(serve: Serve, ask: Ask, name: str, answer: bytes) -> None:
    shop = await serve(answer)
    sample = await ask(f"http://127.0.0.1:{shop.port}/", expect={"body_contains": ["Add to basket"]})
    assert (sample.reason, sample.outcome) == ("challenged", Outcome.BROKEN), sample.evidence
    assert sample.evidence.startswith(f"{name} kept this monitor out")


@pytest.mark.parametrize(
    "answer",
    [
        page(imperva(8), "503 Service Unavailable"),
        page(imperva(20)),
        page(AKAMAI.replace("Access Denied", "Error"), "503 Service Unavailable"),
        page("<title>Sucuri WebSite Firewall - Backend server timeout</title>", "504 Gateway Timeout"),
        page("<title>shop.example | 521: Web server is down</title><a href='https://www.cloudflare.com/5xx-error-landing'>", "521 Down"),
        page(CHL, "503 Service Unavailable"),
        page("<title>Just a moment...</title>", "500 Internal Server Error"),
    ],
)
async def test_the_service_says_that_the_shop_is_down(serve: Serve, ask: Ask, answer: bytes) -> None:
    sample = await ask(f"http://127.0.0.1:{(await serve(answer)).port}/", expect={"body_contains": ["Add to basket"]})
    assert sample.outcome is Outcome.FAILED, sample.evidence
