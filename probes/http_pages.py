"""Pages that are not the shop's usual answer: maintenance pages, and walls against robots.

Looked at only when an expectation failed: they explain a failure, they do not make one.
"""

import re
from html import unescape

from probes.http_exchange import Answer

_READ = 131_072             # bytes of a page that are searched

# Title of a page that says "closed for works", in the languages of most European shops.
_CLOSED = re.compile(
    r"maintenance|be back soon|back shortly|coming soon|opening soon|wartung|entretien|mantenimiento|manutenzione"
    r"|manuten[çc][ãa]o|onderhoud|konserwacja|underhåll|vedligehold|huolto|údržb|karbantart",
    re.IGNORECASE,
)
_MAINTENANCE: tuple[tuple[str, bytes], ...] = (
    ("WordPress", b"briefly unavailable for scheduled maintenance"),
    ("WooCommerce", b"woocommerce-coming-soon"),
    ("Shopware", b"is-ctl-maintenance"),
    ("Shopware", b"container-maintenance"),
    ("PrestaShop", b'id="maintenance"'),
    ("Drupal", b"site under maintenance"),
    ("Drupal", b"maintenance-page"),
    ("Joomla", b"down for maintenance"),
    ("Shopify", b"template-password"),
)
# A cache or proxy that cannot reach the shop says 503 with Retry-After too, and that is an outage.
_PROXY_FAILED = (b"guru meditation", b"backend fetch failed", b"no healthy upstream")

# Titles that only a wall's own page has. Cloudflare says 503 with its older ones; of all others a 5xx is the shop's.
_CLOUDFLARE = ("just a moment...", "attention required! | cloudflare", "please wait... | cloudflare")
_TITLES: dict[str, str] = {
    **dict.fromkeys(_CLOUDFLARE, "Cloudflare"),
    "ddos-guard": "DDoS-Guard",
    "sucuri website firewall - access denied": "Sucuri",
    "making sure you're not a bot!": "Anubis",
    "vercel security checkpoint": "Vercel",
    "access to this page has been denied": "HUMAN",
    "access to this page has been denied.": "HUMAN",
}
# What else a wall's own page has. The tags by which these services watch an ordinary page are not here: behind them every
# page of the shop has those, its error pages too (/_Incapsula_Resource, .awswaf.com, challenge-platform/scripts, px.js).
_WALLS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("Cloudflare", re.compile(rb"/orchestrate/chl_|cf-browser-verification")),
    ("DataDome", re.compile(rb"var dd=\{\s{0,9}['\"]rt['\"]|captcha-delivery\.com/(?:captcha|interstitial)/\?initialcid=")),
    ("AWS WAF", re.compile(rb"window\.gokuprops\s*=")),
    ("a browser check", re.compile(rb"checking your browser before accessing")),
)
_INCIDENT = re.compile(rb"incapsula incident id|_incapsula_resource\?[^\"'<>]{0,300}incident_id=")
_IMPERVA_CODE = re.compile(rb"[?&;]edet=(\d+)")
_IMPERVA_REFUSED = (b"12", b"15", b"16")    # a captcha, a rule, a block list; other codes say that the shop was not reached
_CAPTCHAS = (b"g-recaptcha", b"h-captcha", b"cf-turnstile", b"frc-captcha", b"geetest_", b"px-captcha")
_SMALL, _LINKS = 40_960, 8  # a wall's page is smaller and has fewer links: a page with a menu is the shop's


def wall(answer: Answer) -> str:
    """Whose bot wall, captcha or rate limit answered instead of the shop; "" when none did.

    A wall taken for an outage wakes somebody in vain, an outage taken for a wall wakes nobody: when in doubt, "".
    """
    headers = answer.headers
    if headers.get("cf-mitigated", "").lower() == "challenge":
        return "Cloudflare"
    if headers.get("x-amzn-waf-action", "").lower() in ("challenge", "captcha"):
        return "AWS WAF"
    if answer.status == 429:
        return "a rate limit"
    page = answer.body[:_SMALL].lower()
    if len(answer.body) > _SMALL or page.count(b"<a ") > _LINKS:
        return ""
    title = unescape(answer.title).lower()
    if answer.status >= 500:
        return "Cloudflare" if answer.status == 503 and title in _CLOUDFLARE else ""
    return _TITLES.get(title) or _wall_page(page) or (_refusal(page, title) if answer.status == 403 else "")


def _wall_page(page: bytes) -> str:
    """Whose wall a small page is, by what it says."""
    for name, marker in _WALLS:
        if marker.search(page):
            return name
    if not _INCIDENT.search(page):
        return ""
    # Imperva shows the same page when the shop behind it is down.
    code = _IMPERVA_CODE.search(page)
    return "Imperva" if code is None or code[1] in _IMPERVA_REFUSED else ""


def _refusal(page: bytes, title: str) -> str:
    """Whose wall a small page is that came with a 403."""
    # Akamai names this host on the page for an unreachable shop too, and writes the dots of it as &#46;.
    if title == "access denied" and b"errors.edgesuite.net" in page.replace(b"&#46;", b"."):
        return "Akamai"
    # A captcha stands in many an ordinary form; on a refusal without anything else it is the wall itself.
    return "a captcha" if any(marker in page for marker in _CAPTCHAS) else ""


def maintenance(answer: Answer) -> str:
    """How the answer says that the shop is closed for maintenance; "" when it does not."""
    page = answer.body[:_READ].lower()
    for name, marker in _MAINTENANCE:
        if marker in page:
            return f"{name}'s maintenance page"
    if answer.status != 503 or any(marker in page for marker in _PROXY_FAILED):
        return ""
    if b"/errors/default/" in page:
        return "Magento's maintenance page"
    if _CLOSED.search(answer.title):
        return f"a maintenance page titled {answer.title}"
    return f"503 with Retry-After: {answer.headers['Retry-After'][:40]}" if "Retry-After" in answer.headers else ""
