"""From the basket to the paid order."""

import logging
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from monitor.demo import payment
from monitor.demo.baskets import MOST_OF_ONE, Line, Order, to_lines, total
from monitor.demo.catalogue import PRODUCTS
from monitor.demo.database import query
from monitor.demo.pages import COOKIE, SHOP, money, page, problem, see_other, wants_json

LOG = logging.getLogger("kettle.checkout")
MOST_FIELDS = 20
LONGEST_FIELD = 200
BASKET_MS = 8.0
CHECKOUT_MS = 9.0

routes = web.RouteTableDef()


@routes.get("/basket")
async def show_basket(request: web.Request) -> web.Response:
    """What lies in the visitor's basket."""
    await query(BASKET_MS)
    lines = _session_lines(request)
    return page(request, "basket.html", lines=lines, total=total(lines))


@routes.post("/basket")
async def add_to_basket(request: web.Request) -> web.Response:
    """Adds `quantity` (1 by default, 0 takes it out) of `product`, and shows the basket."""
    form = await _form(request)
    await query(BASKET_MS)
    if form.get("product") not in PRODUCTS:
        raise web.HTTPNotFound
    session = request.app[SHOP].baskets.add(request.cookies.get(COOKIE, ""), form["product"], _quantity(form))
    response = see_other("/basket")
    response.set_cookie(COOKIE, session, httponly=True, samesite="Lax")
    return response


@routes.get("/checkout")
async def show_checkout(request: web.Request) -> web.Response:
    """The payment form, for the basket or for the one `product` of a guest who buys at once."""
    await query(CHECKOUT_MS)
    lines = _guest_lines(request.query) or _session_lines(request)
    if not lines:
        return see_other("/basket")
    return _checkout_page(request, lines, guest=request.query)


@routes.post("/checkout/payment")
async def pay(request: web.Request) -> web.Response:
    """Takes `card`, `name`, `email`; `product` and `quantity` too when a guest pays without a basket."""
    shop, form = request.app[SHOP], await _form(request)
    guest = _guest_lines(form)
    lines = guest or _session_lines(request)
    if not lines:
        return problem(request, 400, "Your basket is empty", "There is nothing to pay for: your basket is empty.")
    wrong = _complaint(form)
    if wrong:
        return _refused(request, lines, form, 400, wrong)
    reference = await payment.charge(form["card"], total(lines), shop.deployed.current(), shop.payment_failures)
    if reference is None:
        LOG.warning("Payment refused: card not accepted")
        return _refused(request, lines, form, 402, "Your card was refused. Please try another one.")
    if not guest:
        shop.baskets.empty(request.cookies.get(COOKIE, ""))
    return _confirmed(request, shop.orders.place(lines, reference))


@routes.get("/order/{id}")
async def show_order(request: web.Request) -> web.Response:
    """The confirmation of a paid order."""
    await query(BASKET_MS)
    order = request.app[SHOP].orders.get(request.match_info["id"])
    if order is None:
        raise web.HTTPNotFound
    return page(request, "order.html", order=order)


@routes.post("/order/{id}/cancel")
async def cancel_order(request: web.Request) -> web.Response:
    """Takes an order back, if it is there; a second time changes nothing."""
    await query(BASKET_MS)
    if not request.app[SHOP].orders.cancel(request.match_info["id"]):
        raise web.HTTPNotFound
    return web.json_response({"status": "cancelled"}) if wants_json(request) else see_other(f"/order/{request.match_info['id']}")


def _confirmed(request: web.Request, order: Order) -> web.Response:
    address = f"/order/{order.id}"
    if not wants_json(request):
        return see_other(address)
    return web.json_response({"status": "paid", "order": order.id, "total": money(order.cents), "url": address})


def _refused(
    request: web.Request, lines: tuple[Line, ...], form: Mapping[str, str], status: int, wrong: str,
) -> web.Response:
    if wants_json(request):
        return web.json_response({"status": "refused", "error": wrong}, status=status)
    return _checkout_page(request, lines, guest=form, status=status, wrong=wrong)


def _checkout_page(
    request: web.Request, lines: tuple[Line, ...], *, guest: Mapping[str, str], status: int = 200, wrong: str = "",
) -> web.Response:
    bought = {line.product.id: line.quantity for line in _guest_lines(guest)}
    return page(request, "checkout.html", status=status, lines=lines, total=total(lines), guest=bought, wrong=wrong)


def _complaint(form: Mapping[str, str]) -> str:
    """What is missing in a payment form, in words for the customer; "" if nothing is."""
    if not form.get("name", "").strip():
        return "Please tell us your name."
    if "@" not in form.get("email", "").strip("@ "):
        return "Please give an e-mail address, so that we can send you the receipt."
    return "" if form.get("card", "").strip() else "Please give the number of your card."


def _session_lines(request: web.Request) -> tuple[Line, ...]:
    return request.app[SHOP].baskets.lines(request.cookies.get(COOKIE, ""))


def _guest_lines(form: Mapping[str, str]) -> tuple[Line, ...]:
    return to_lines({form.get("product", ""): _quantity(form)})


def _quantity(form: Mapping[str, str]) -> int:
    text = form.get("quantity", "1")
    return min(int(text), MOST_OF_ONE) if text.isascii() and text.isdigit() else 1


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a form post. Not `request.post()`: files and foreign charsets have no business here."""
    body = (await request.read()).decode("utf-8", "replace")
    try:
        fields = parse_qsl(body, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise web.HTTPBadRequest(text="That is not a form of ours.") from error
    return {name: value[:LONGEST_FIELD] for name, value in fields}
