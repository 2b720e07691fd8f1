"""Pages that are not the shop's usual answer: maintenance pages, and walls against robots.

Looked at only when an expectation failed: they explain a failure, they do not make one.
"""

import re

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

_WALLS: tuple[tuple[str, bytes], ...] = (
    ("Cloudflare", b"/cdn-cgi/challenge-platform/h/"),
    ("Cloudflare", b"cf-browser-verification"),
    ("Cloudflare", b"<title>attention required! | cloudflare"),
    ("Cloudflare", b"<title>just a moment..."),
    ("Imperva", b"_incapsula_resource"),
    ("DataDome", b"captcha-delivery.com"),
    ("HUMAN", b"px-captcha"),
    ("Akamai", b"errors.edgesuite.net"),
    ("AWS WAF", b".awswaf.com/"),
    ("Sucuri", b"sucuri website firewall"),
    ("DDoS-Guard", b"<title>ddos-guard"),
    ("Anubis", b"making sure you&#39;re not a bot"),
    ("Anubis", b"making sure you're not a bot"),
    ("Vercel", b"<title>vercel security checkpoint"),
    ("a browser check", b"checking your browser before accessing"),
)
_CAPTCHAS = (b"g-recaptcha", b"h-captcha", b"cf-turnstile", b"frc-captcha", b"geetest_")


def wall(answer: Answer) -> str:
    """Whose bot wall, captcha or rate limit answered instead of the shop; "" when none did."""
    headers = answer.headers
    if headers.get("cf-mitigated", "").lower() == "challenge":
        return "Cloudflare"
    if headers.get("x-amzn-waf-action", "").lower() in ("challenge", "captcha"):
        return "AWS WAF"
    if answer.status == 429:
        return "a rate limit"
    page = answer.body[:_READ].lower()
    for name, marker in _WALLS:
        if marker in page:
            return name
    # A captcha stands in many an ordinary form; on a refusal it is the wall itself.
    if answer.status == 403 and any(marker in page for marker in _CAPTCHAS):
        return "a captcha"
    return ""


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
