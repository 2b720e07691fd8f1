"""The shop's reading pages, and how every page of it is drawn."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files

import jinja2
from aiohttp import web

from monitor.demo import catalogue
from monitor.demo.baskets import Baskets, Orders
from monitor.demo.database import query
from monitor.demo.releases import RELEASES, Deployed
from monitor.demo.shop_logs import printable

LOG = logging.getLogger("kettle.request")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "kettle_session"
HOME_MS = 10.0
LONGEST_SEARCH = 80

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
}
APOLOGIES = {
    404: ("Page not found", "We looked in every tin, but there is nothing at this address."),
    500: ("Sorry, something went wrong", "It is our fault, and your card was not charged. Please try again later."),
}


@dataclass(frozen=True, slots=True)
class Shop:
    """What the pages of one running shop share."""

    deployed: Deployed
    payment_failures: float     # the share of payments that fail under release 2.0
    templates: jinja2.Environment
    baskets: Baskets = field(default_factory=Baskets)
    orders: Orders = field(default_factory=Orders)


SHOP = web.AppKey("SHOP", Shop)
routes = web.RouteTableDef()


def load_templates() -> jinja2.Environment:
    """All templates, compiled beforehand: a deploy must not make the first visitors wait."""
    loader = jinja2.FileSystemLoader(str(files("monitor.demo") / "templates"))
    templates = jinja2.Environment(loader=loader, autoescape=True, auto_reload=False, undefined=jinja2.StrictUndefined)
    templates.filters["money"] = money
    for name in templates.list_templates():
        templates.get_template(name)
    return templates


def money(cents: int) -> str:
    """A price as people read it."""
    return f"€{cents / 100:.2f}"


def page(request: web.Request, template: str, *, status: int = 200, **values: object) -> web.Response:
    """A page in the dress of the release that is live."""
    shop = request.app[SHOP]
    pieces = sum(line.quantity for line in shop.baskets.lines(request.cookies.get(COOKIE, "")))
    text = shop.templates.get_template(template).render(
        release=shop.deployed.current(), categories=catalogue.CATEGORIES, pieces=pieces, **values,
    )
    return web.Response(text=text, content_type="text/html", status=status, headers=HEADERS)


def wants_json(request: web.Request) -> bool:
    """Whether it is a program that asks, and not a browser."""
    return "application/json" in request.headers.get("Accept", "")


def problem(request: web.Request, status: int, title: str, text: str) -> web.Response:
    """Says what went wrong, to people or to programs."""
    if wants_json(request):
        return web.json_response({"status": "failed", "error": text}, status=status)
    return page(request, "problem.html", status=status, title=title, text=text)


def see_other(address: str) -> web.Response:
    """Sends the browser on with a GET, so that reloading posts nothing twice."""
    return web.Response(status=303, headers={"Location": address})


@web.middleware
async def apologise(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a handler raised into a page, and what it did not foresee into a traceback in the error log."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        if error.status == 404:
            LOG.warning("Not Found: %s", printable(request.raw_path))
        return problem(request, error.status, *APOLOGIES.get(error.status, (error.reason, error.text or error.reason)))
    except Exception:
        LOG.exception("Internal Server Error: %s", printable(request.raw_path))
        return problem(request, 500, *APOLOGIES[500])


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """The front page: one product of each category."""
    await query(HOME_MS)
    shown = [catalogue.PRODUCTS[name] for name in ("house-espresso", "darjeeling", "sencha", "gooseneck")]
    return page(request, "home.html", products=shown, recommended=catalogue.recommended())


@routes.get("/category/{name}")
async def category(request: web.Request) -> web.Response:
    """All products of a category."""
    name = request.match_info["name"]
    if name not in catalogue.CATEGORIES:
        raise web.HTTPNotFound
    products = await catalogue.list_category(name, request.app[SHOP].deployed.current())
    return page(request, "category.html", name=name, products=products)


@routes.get("/search")
async def search(request: web.Request) -> web.Response:
    """What was found for `q`."""
    words = request.query.get("q", "")[:LONGEST_SEARCH]
    products = await catalogue.search(words, request.app[SHOP].deployed.current())
    return page(request, "search.html", words=words, products=products)


@routes.get("/product/{id}")
async def product(request: web.Request) -> web.Response:
    """One product, with a way to buy it."""
    found = await catalogue.find(request.match_info["id"], request.app[SHOP].deployed.current())
    if found is None:
        raise web.HTTPNotFound
    chosen, others = found
    return page(request, "product.html", product=chosen, others=others, recommended=catalogue.recommended(chosen.id))


@routes.get("/static/kettle-{assets}.css")
async def style(request: web.Request) -> web.Response:
    """The style sheet of a release; old ones stay, for pages that were loaded before a deploy."""
    release = next((one for one in RELEASES.values() if one.assets == request.match_info["assets"]), None)
    if release is None:
        raise web.HTTPNotFound
    text = request.app[SHOP].templates.get_template(f"{release.theme}/kettle.css").render()
    forever = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(text=text, content_type="text/css", headers=forever)


@routes.get("/healthz")
async def health(_: web.Request) -> web.Response:
    """Always well: it knows that the process runs, and nothing of payments. Under release 2.0 it is well, too."""
    return web.json_response({"status": "ok"})
