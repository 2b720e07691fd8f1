"""Shopware 6 with its own storefront, as a guest. Not tried yet: a starting point.

    [[probe]]
    name = "checkout"
    kind = "checkout"
    url = "https://shop.example"
    flow = "flows/shopware.py"
    variables = { email = "till+{run}@shop.example", product = "/Sencha/SW10001" }
"""

import re

from playwright.async_api import expect


async def checkout(flow):
    page = flow.page

    async with flow.step("product"):
        await page.goto(flow.vars["product"])
        banner = page.locator(".js-cookie-permission-button button")
        if await banner.is_visible():                    # it lies over the page on the first visit, which every run is
            await banner.click()
        await expect(page.locator(".product-detail-price").first).to_contain_text(re.compile("[1-9]"))
        await expect(page.locator(".btn-buy").first).to_be_enabled()

    async with flow.step("basket"):
        await page.locator(".btn-buy").first.click()
        await expect(page.locator(".offcanvas.show .line-item")).to_have_count(1)       # the basket slides in from the side
        await expect(page.locator(".begin-checkout-btn")).to_be_visible()

    async with flow.step("guest"):
        await page.locator(".begin-checkout-btn").click()
        await expect(page.locator("form.register-form")).to_be_visible()

    async with flow.step("address"):
        form = page.locator("form.register-form")
        await form.locator("[name='billingAddress[firstName]']").fill("Till")
        await form.locator("[name='billingAddress[lastName]']").fill("Watch")
        await form.locator("[name=email]").fill(flow.vars["email"])
        await form.locator("[name='billingAddress[street]']").fill("12 Harbour Row")
        await form.locator("[name='billingAddress[zipcode]']").fill("1010")
        await form.locator("[name='billingAddress[city]']").fill("Vienna")
        await form.locator("[name='billingAddress[countryId]']").select_option(label="Austria")
        await form.locator("button[type=submit]").click()
        await page.wait_for_url("**/checkout/confirm**")
        await expect(page.locator(".checkout-aside-summary-total").last).to_contain_text(re.compile("[1-9]"))

    async with flow.step("payment"):                     # not entered unless stop_before = ""
        await page.locator("#tos").check()
        await flow.submit(page.locator("#confirmFormSubmit"))
        await page.wait_for_url("**/checkout/finish**")
        number = re.search(r"\d{4,}", await page.locator(".finish-ordernumber").inner_text())
        flow.order(number[0])
