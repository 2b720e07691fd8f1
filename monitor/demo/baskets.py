"""What visitors have put aside and what they have bought: in memory, bounded, gone with the process."""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from monitor.demo.catalogue import PRODUCTS, Product

SESSIONS = 2000         # the longest unused ones go first
ORDERS = 2000
MOST_OF_ONE = 9         # of one product in a basket


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one product."""

    product: Product
    quantity: int

    @property
    def cents(self) -> int:
        return self.product.cents * self.quantity


@dataclass(frozen=True, slots=True)
class Order:
    """A paid basket. Who bought it is not kept: whoever knows the unguessable id sees the confirmation."""

    id: str
    lines: tuple[Line, ...]
    reference: str
    cancelled: bool = False

    @property
    def cents(self) -> int:
        return total(self.lines)


class Baskets:
    """Baskets by session id. Only ids that we made ourselves are known, so that nobody can plant one."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, dict[str, int]] = OrderedDict()

    def lines(self, session: str) -> tuple[Line, ...]:
        """What lies in the basket; nothing for an unknown session."""
        return to_lines(self._sessions.get(session, {}))

    def add(self, session: str, product: str, quantity: int) -> str:
        """Adds to a basket, or takes the product out when `quantity` is 0; gives the session's id, maybe a new one."""
        if session not in self._sessions:
            session = secrets.token_urlsafe(24)
        basket = self._sessions.setdefault(session, {})
        self._sessions.move_to_end(session)
        basket[product] = min(basket.get(product, 0) + quantity, MOST_OF_ONE) if quantity else 0
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def empty(self, session: str) -> None:
        """Clears a basket after it was paid."""
        self._sessions.pop(session, None)


class Orders:
    """The confirmations that can still be looked at."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def place(self, lines: tuple[Line, ...], reference: str) -> Order:
        """Keeps a paid order."""
        order = Order(f"KL-{secrets.token_hex(6)}", lines, reference)
        self._orders[order.id] = order
        if len(self._orders) > ORDERS:
            self._orders.popitem(last=False)
        return order

    def cancel(self, order_id: str) -> bool:
        """Marks an order as cancelled; whether there is such a one."""
        order = self._orders.get(order_id)
        if order is not None:
            self._orders[order_id] = replace(order, cancelled=True)
        return order is not None

    def get(self, order_id: str) -> Order | None:
        """The order, unless it is too long ago."""
        return self._orders.get(order_id)


def to_lines(quantities: Mapping[str, int]) -> tuple[Line, ...]:
    """Basket lines for product ids that exist and quantities above 0."""
    return tuple(Line(PRODUCTS[name], n) for name, n in quantities.items() if n > 0 and name in PRODUCTS)


def total(lines: tuple[Line, ...]) -> int:
    """The sum in cents."""
    return sum(line.cents for line in lines)
