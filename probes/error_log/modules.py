"""Whose code a path is: the plugin, theme, module or package of it, and whether it is the shop's own."""

import re
from collections.abc import Sequence

from probes.error_log.event import Frame

_LONGEST_PATH = 400        # characters that are looked at, from the end

# Folders that change with each release: times, versions and hashes, also behind a name as in "shop-1.2.3" (which keeps its name).
_RELEASE = re.compile(
    r"(?<=/)(?:releases?|versions?|revisions?|deployments?)/[^/]+/"
    r"|(?<=/)(?:v?\d[\d._-]{0,30}[a-z]{0,8}\d{0,8}|(?=[a-f]{0,40}\d)[0-9a-f]{7,64})/", re.IGNORECASE)
_VERSION = re.compile(
    r"[-_@]v?\d+(?:\.\d+){0,5}(?:[-.+_]?(?:alpha|beta|rc|dev|post|final|release|snapshot|[a-f0-9]{6,40})[\d.]{0,9}){0,3}$", re.IGNORECASE)

_NAME = r"((?:[^/]+))"
# The first that fits is it; groups are joined by the second part.
_PLACES: tuple[tuple[re.Pattern[str], str], ...] = tuple((re.compile(rf"(?:^|/){pattern}"), joint) for pattern, joint in (
    (rf"wp-content/(?:mu-plugins|plugins|themes)/{_NAME}", ""),                                        # WordPress, WooCommerce
    (rf"app/code/(?:local/|community/|core/)?{_NAME}/{_NAME}/", "_"),                                  # Magento's own notation
    (rf"app/design/[^/]+/{_NAME}/{_NAME}/", "/"),
    (rf"custom/(?:static-plugins|plugins|apps)/{_NAME}", ""),                                          # Shopware 6
    (rf"engine/Shopware/Plugins/(?:Local|Community|Default)/[^/]+/{_NAME}", ""),                       # Shopware 5
    (rf"(?:controller|model|view/template|language/[^/]+)/extension/[^/]+/{_NAME}", ""),               # OpenCart 3
    (rf"extension/{_NAME}/", ""),                                                                      # OpenCart 4
    (r"(?:.*/)?node_modules/(@[^/]+/[^/]+|[^/@]+)", ""),
    (rf"(?:.*/)?vendor/bundle/.*/gems/{_NAME}/", ""),
    (rf"(?:.*/)?gems/{_NAME}/(?:lib|app|ext|exe)/", ""),
    (rf"(?:.*/)?(?:site|dist)-packages/{_NAME}", ""),
    (rf"vendor/{_NAME}/{_NAME}/", "/"),                                                                # Composer
    (rf"modules/(?:contrib/|custom/)?{_NAME}/", ""),                                                   # PrestaShop, Drupal
    (rf"src/Plugin/{_NAME}/", ""),
))
# Names that every project has: the folder tells more.
_COMMON = frozenset((
    "__init__", "__main__", "admin", "api", "app", "apps", "base", "bin", "bootstrap", "build", "code", "common", "config", "controller",
    "controllers", "core", "current", "dist", "forms", "functions", "handler", "handlers", "helper", "helpers", "home", "htdocs", "html",
    "inc", "includes", "index", "lib", "main", "managers", "middleware", "model", "models", "opt", "public", "public_html", "router",
    "routes", "run", "serializers", "server", "service", "services", "settings", "shared", "signals", "src", "srv", "tasks", "urls", "usr",
    "util", "utils", "var", "view", "views", "web", "www"))
_CODE = re.compile(r"/?([^/]+)\.(?:py|php|phtml|inc|js|mjs|cjs|ts|tsx|jsx|rb|go|pl|vue)$")
_NAMESPACED = re.compile(r"\.(?:java|kt|scala|groovy|cs|vb|fs)$")

# Code of others that nobody installs into a shop for its own sake: languages, frameworks, libraries.
_FOREIGN = re.compile(
    r"(?:^|/)(?:node_modules|site-packages|dist-packages|wp-includes|wp-admin|gems|jre|jdk)/|(?:^|/)lib(?:64)?/(?:python[\d.]*|ruby)/"
    r"|(?:^|/)usr/(?:lib|share)/|^node:|^internal/|^<|^\[|^(?:~/)?(?:java|javax|jakarta|jdk|sun|kotlin|kotlinx|scala|groovy|reactor|okhttp\d?|System|Microsoft)/"
    r"|^com/(?:sun|zaxxer|fasterxml|mysql|google|microsoft)/"
    r"|^org/(?:apache|springframework|hibernate|eclipse|jboss|postgresql|mariadb|junit|gradle|aspectj|thymeleaf|codehaus)/|^io/(?:netty|undertow|micrometer)/"
    r"|(?:^|/)vendor/(?:magento|shopware|symfony|laravel|sylius)/|(?:^|/)vendor/(?![^/]+/(?:module|plugin|theme|extension)-)[^/]+/[^/]+/")
_FILES_OF_ALL = re.compile(r"(?:^|/)(?:wp-settings|wp-load|wp-blog-header|wp-cron|wp-login|wp-config)\.php$")


def module_of(path: str) -> str:
    """The plugin, theme, module or package that a file belongs to; "" when the path does not tell.

    "acme/payment" of Composer, "Acme_Stock" of Magento, "@acme/pay" of npm, "com.acme.shop" of Java, "payment_gateway" for a file of one's own.
    Without versions and releases.
    """
    if path[:1] in {"<", "["}:
        return ""
    path = _plain(path)
    for place, joint in _PLACES:
        if found := place.search(path):
            return joint.join(_unversioned(_stem(name)) for name in found.groups())
    if _NAMESPACED.search(path):
        folder = path.rpartition("/")[0]
        return "" if folder.startswith("/") else folder.replace("/", ".")
    return _own(path)


def top_own(frames: Sequence[Frame]) -> Frame | None:
    """The first frame that is not of a language, framework or library; the first of all when all are; None when there is none."""
    return next((frame for frame in frames if frame.path and not is_foreign(frame.path)), frames[0] if frames else None)


def is_foreign(path: str) -> bool:
    """Whether a file belongs to a language, framework or library, and not to the shop or what was installed into it."""
    path = path[-_LONGEST_PATH:].replace("\\", "/")
    return bool(_FOREIGN.search(path) or _FILES_OF_ALL.search(path))


def _plain(path: str) -> str:
    return _RELEASE.sub("", path[-_LONGEST_PATH:].replace("\\", "/"))


def _own(path: str) -> str:
    """The name of a file of code, or of the nearest folder with a name of its own."""
    found = _CODE.search(path)
    if not found:
        return ""
    folders = path[:found.start()].strip("/").split("/")
    for name in (found[1], *reversed(folders[-4:])):
        if name and name.lower() not in _COMMON:
            return _unversioned(name)
    return found[1]


def _stem(name: str) -> str:
    found = _CODE.search(name)
    return found[1] if found else name


def _unversioned(name: str) -> str:
    return _VERSION.sub("", name) or name
