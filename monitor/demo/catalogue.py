"""What Kettle & Leaf sells."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.demo.database import query
from monitor.demo.releases import Release

LISTED = 6                  # products on a page of the catalogue
LISTING_MS = 11.0           # the one query of a catalogue page
STOCK_MS = 2.5              # the query per product that release 2.0 adds; six of them make a page 2.5 times as slow


@dataclass(frozen=True, slots=True)
class Product:
    """`cents` is the price in euro cents, tax included."""

    id: str
    name: str
    category: str
    cents: int
    unit: str
    text: str


CATEGORIES = {"coffee": "Coffee", "black-tea": "Black tea", "green-tea": "Green tea", "brewing": "Brewing gear"}

PRODUCTS = {product.id: product for product in (
    Product("house-espresso", "House Espresso", "coffee", 1290, "500 g",
            "Our daily blend: Brazil and Sumatra, roasted until it smells of hazelnut and dark bread."),
    Product("yirgacheffe", "Ethiopia Yirgacheffe", "coffee", 1450, "350 g",
            "Washed, light, with bergamot and apricot. Best as pour-over."),
    Product("huila", "Colombia Huila", "coffee", 1390, "350 g",
            "A round cup with red apple and cane sugar, from thirty small farms above Pitalito."),
    Product("antigua", "Guatemala Antigua", "coffee", 1350, "350 g",
            "Cocoa and orange peel, grown in the ash of three volcanoes."),
    Product("monsoon-malabar", "Monsoon Malabar", "coffee", 1190, "500 g",
            "Low acid and a heavy body: the beans lie in the monsoon wind for weeks."),
    Product("night-shift", "Night Shift Decaf", "coffee", 1320, "350 g",
            "Decaffeinated with mountain water. Milk chocolate, and sleep afterwards."),
    Product("assam", "Assam Breakfast", "black-tea", 890, "125 g",
            "Malty and strong enough for milk. Second flush, whole leaf."),
    Product("darjeeling", "Darjeeling First Flush", "black-tea", 1690, "100 g",
            "Picked in March: muscatel grape, cut grass and a dry finish."),
    Product("earl-grey", "Earl Grey & Cornflower", "black-tea", 950, "125 g",
            "Ceylon leaf with real bergamot oil from Calabria."),
    Product("lapsang", "Lapsang Souchong", "black-tea", 1240, "100 g",
            "Dried over pine smoke. Some cook with it, the brave drink it."),
    Product("keemun", "Keemun Hao Ya", "black-tea", 1580, "100 g",
            "Unsweetened cocoa, a little orchid. The quiet one among black teas."),
    Product("masala", "Masala Chai", "black-tea", 920, "150 g",
            "Assam with cardamom, ginger, clove and pepper, to be boiled in milk."),
    Product("sencha", "Sencha Kagoshima", "green-tea", 1150, "100 g",
            "Steamed spring leaf with the taste of peas and sea breeze."),
    Product("genmaicha", "Genmaicha", "green-tea", 790, "125 g",
            "Green tea and roasted rice: popcorn for grown-ups."),
    Product("gunpowder", "Gunpowder Temple of Heaven", "green-tea", 690, "150 g",
            "Tightly rolled pearls, a touch of smoke; the base of mint tea."),
    Product("jasmine", "Jasmine Pearls", "green-tea", 1820, "80 g",
            "Hand-rolled buds, scented with fresh blossoms seven nights in a row."),
    Product("longjing", "Longjing Dragon Well", "green-tea", 2190, "80 g",
            "Pan-fired in Hangzhou. Chestnut, sweet and clear."),
    Product("matcha", "Matcha Uji", "green-tea", 2450, "40 g",
            "Stone-ground, for the bowl. Whisk it, do not stir it."),
    Product("gooseneck", "Gooseneck Kettle", "brewing", 5900, "0.9 l",
            "Brushed steel with a thin spout that pours where you look."),
    Product("dripper", "Porcelain Dripper", "brewing", 2490, "size 02",
            "Sixty degrees, one large hole, a lifetime of mornings."),
    Product("hand-mill", "Hand Mill", "brewing", 7900, "steel burrs",
            "Thirty grams of beans in forty seconds, without waking anyone."),
    Product("teapot", "Cast Iron Teapot", "brewing", 6450, "0.8 l",
            "Enamelled inside, with a fine sieve. Keeps two rounds warm."),
    Product("scale", "Brewing Scale", "brewing", 3990, "0.1 g",
            "Weighs and times the pour. Charges over USB-C."),
    Product("whisk", "Bamboo Whisk", "brewing", 1590, "80 prongs",
            "Split from one piece of bamboo, for matcha without lumps."),
)}


async def list_category(name: str, release: Release) -> list[Product]:
    """The products of a category."""
    found = [product for product in PRODUCTS.values() if product.category == name]
    await _load(found, release)
    return found


async def search(words: str, release: Release) -> list[Product]:
    """Products in whose name, text or category all the words stand; at most a page of them. No words find nothing."""
    wanted = words.lower().split()
    found = [product for product in PRODUCTS.values() if wanted and all(word in _haystack(product) for word in wanted)]
    # Since 2.0 stock is looked up before the hits are picked, so that a search for nothing is as slow as any other.
    await _load(list(PRODUCTS.values())[:LISTED], release)
    return found[:LISTED]


async def find(product_id: str, release: Release) -> tuple[Product, list[Product]] | None:
    """A product and others like it."""
    product = PRODUCTS.get(product_id)
    if product is None:
        return None
    family = await list_category(product.category, release)
    return product, [other for other in family if other is not product]


def recommended(beside: str = "") -> list[Product]:
    """Three that go well with anything, without the product that is shown already."""
    favourites = ("yirgacheffe", "genmaicha", "dripper", "earl-grey")
    return [PRODUCTS[name] for name in favourites if name != beside][:3]


async def _load(products: Sequence[Product], release: Release) -> None:
    await query(LISTING_MS)
    if release.query_per_product:
        for _ in products:
            await query(STOCK_MS)


def _haystack(product: Product) -> str:
    return f"{product.name} {product.text} {CATEGORIES[product.category]}".lower()
