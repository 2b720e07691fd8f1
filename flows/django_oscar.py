"""django-oscar, guest checkout, in its own templates. Tried with django-oscar 4.2 on Django 5.2, up to the placed order.

The shop must allow guests: OSCAR_ALLOW_ANON_CHECKOUT = True. Oscar itself takes no payment, it only has a place for it: what your gateway shows
there belongs into the step "payment".

    [[probe]]
    name = "checkout"
    kind = "checkout"
    url = "https://shop.example"
    flow = "flows/django_oscar.py"
    variables = { email = "till+{run}@shop.example", product = "/catalogue/sencha_1/" }
"""

import re

from playwright.async_api import expect

BASKET = re.compile("basket|cart", re.IGNORECASE)        # "basket" in British English, "cart" in American


async def checkout(flow):
    page = flow.page

    async with flow.step("product"):
        await page.goto(flow.vars["product"])
        await expect(page.get_by_role("article").get_by_text("In stock").first).to_be_visible()

    async with flow.step("basket"):
        await page.get_by_role("button", name=re.compile("add to (basket|cart)", re.IGNORECASE)).first.click()
        await page.get_by_role("link", name="Checkout now").wait_for()
        await page.goto("/basket/")
        await expect(page.get_by_role("heading", name=BASKET, level=1)).to_be_visible()
        await expect(page.get_by_role("cell", name=re.compile(r"[1-9]\d*\.\d\d")).last).to_be_visible()        # a total that is not zero

    async with flow.step("guest"):
        await page.get_by_role("link", name="Proceed to checkout").click()
        await page.get_by_label("My email address is").fill(flow.vars["email"])
        await page.get_by_label("checkout as a guest").check()
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", name="Shipping address")).to_be_visible()

    async with flow.step("address"):
        await page.get_by_label("First name").fill("Till")
        await page.get_by_label("Last name").fill("Watch")
        await page.get_by_label("First line of address").fill("12 Harbour Row")
        await page.get_by_label("City").fill("Vienna")
        await page.get_by_label("Post/Zip-code").fill("1010")
        await page.get_by_label("Country").select_option("AT")
        await page.get_by_role("button", name="Continue").click()
        await page.wait_for_url("**/checkout/payment-details/**")        # with several shipping methods a page comes before: choose one there

    async with flow.step("payment"):                     # not entered unless stop_before = ""
        await page.get_by_role("link", name="Continue").click()
        await expect(page.get_by_role("heading", name="Preview order")).to_be_visible()
        await flow.submit(page.get_by_role("button", name="Place order"))
        await expect(page).to_have_title(re.compile(r"Order \d+: confirmation"))
        flow.order(re.search(r"Order (\d+)", await page.title())[1])
