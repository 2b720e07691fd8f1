"""OpenCart 4 with its own theme, as a guest. Not tried yet: a starting point.

Its checkout is one page of many small AJAX calls; each answers 200 with {"error": ...} when it fails, and only the assertions see that.

    [[probe]]
    name = "checkout"
    kind = "checkout"
    url = "https://shop.example"
    flow = "flows/opencart.py"
    variables = { email = "till+{run}@shop.example", product = "/index.php?route=product/product&product_id=43" }
"""

import re

from playwright.async_api import expect


async def checkout(flow):
    page = flow.page

    async with flow.step("product"):
        await page.goto(flow.vars["product"])
        await expect(page.locator(".price-new").first).to_contain_text(re.compile("[1-9]"))

    async with flow.step("basket"):
        await page.locator("#button-cart").click()
        await expect(page.locator("#alert .alert-success")).to_be_visible()
        await page.goto("/index.php?route=checkout/cart")
        await expect(page.locator("#shopping-cart tbody tr")).not_to_have_count(0)

    async with flow.step("guest"):
        await page.goto("/index.php?route=checkout/checkout")
        await page.locator("#input-guest").check()
        await page.locator("#input-firstname").fill("Till")
        await page.locator("#input-lastname").fill("Watch")
        await page.locator("#input-email").fill(flow.vars["email"])
        await page.locator("#input-shipping-address-1").fill("12 Harbour Row")
        await page.locator("#input-shipping-city").fill("Vienna")
        await page.locator("#input-shipping-postcode").fill("1010")
        await page.locator("#input-shipping-country").select_option(label="Austria")
        await page.locator("#input-shipping-zone").select_option(label="Wien")
        await page.locator("#button-register").click()
        await expect(page.locator("#alert .alert-success")).to_be_visible()

    async with flow.step("shipping"):
        await page.locator("#button-shipping-methods").click()
        await page.locator("#modal-shipping input[type=radio]").first.check()
        await page.locator("#button-shipping-method").click()
        await expect(page.locator("#input-shipping-method")).not_to_have_value("")

    async with flow.step("method"):
        await page.locator("#button-payment-methods").click()
        await page.locator("#modal-payment input[type=radio]").first.check()
        await page.locator("#button-payment-method").click()
        await expect(page.locator("#button-confirm")).to_be_enabled()

    async with flow.step("payment"):                     # not entered unless stop_before = ""
        await flow.submit(page.locator("#button-confirm"))
        await page.wait_for_url("**route=checkout/success**")
