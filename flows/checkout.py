"""The bundled shop, Kettle & Leaf: from its front page to a paid order. Tried with every release of it.

With stop_before = "payment", the default, the flow ends at the payment form. With stop_before = "" it pays, with a test card.

    [[probe]]
    name = "checkout"
    kind = "checkout"
    flow = "flows/checkout.py"
    variables = { email = "till+{run}@shop.example" }
    secrets = { card = "4242 4242 4242 4242" }
"""

import re

from playwright.async_api import expect


async def checkout(flow):
    page = flow.page

    async with flow.step("home"):
        await page.goto("/")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Coffee and tea")

    async with flow.step("category"):
        await page.get_by_role("link", name="Green tea").click()
        await expect(page.get_by_role("heading", name="Green tea")).to_be_visible()
        await expect(page.locator("main h2")).not_to_have_count(0)           # an empty shelf answers 200 too

    async with flow.step("product"):
        await page.get_by_role("link", name="Sencha Kagoshima").first.click()
        await expect(page.get_by_role("heading", name="Sencha Kagoshima")).to_be_visible()
        await expect(page.get_by_text(re.compile("€[1-9]")).first).to_be_visible()        # and it has a price

    async with flow.step("basket"):
        await page.get_by_role("button", name="Add to basket").click()
        await expect(page.get_by_role("heading", name="Your basket")).to_be_visible()
        await expect(page.get_by_role("cell", name="Sencha Kagoshima")).to_be_visible()

    async with flow.step("checkout"):
        await page.get_by_role("link", name="Go to checkout").click()
        await page.get_by_label("Name on card").fill("Till Watch")
        await page.get_by_label("E-mail").fill(flow.vars["email"])
        await expect(page.get_by_role("button", name="Pay now")).to_be_enabled()

    async with flow.step("payment"):                     # not entered unless stop_before = ""
        await page.get_by_label("Card number").fill(flow.secret("card"))
        await flow.submit(page.get_by_role("button", name="Pay now"))
        await expect(page.get_by_role("heading", name="Thank you for your order")).to_be_visible()
        flow.order(await page.locator("#order").inner_text())
