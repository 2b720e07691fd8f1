"""Runs declared steps in a browser, with the same `flow` that a flow written in Python has."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import re2
from playwright.async_api import Dialog, Error, Locator, Page, Response, expect
from playwright.async_api import TimeoutError as TooLate

from probes.checkout import targets
from probes.checkout.flow import Flow, FlowError
from probes.checkout.steps import Action, DeclaredStep, insert
from probes.patterns import compiled

_OPTIONAL = 2.0            # s that something optional is waited for
_GRACE = 0.5               # s that it is looked at why something did not come
_OFTEN = 0.1               # s between two looks at a text
_KEYS = 20.0               # ms between two keys
_LONGEST_TEXT = 100_000    # characters that a pattern is looked for in
_LONGEST_KEPT = 500        # characters of a variable
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_TEXT = f"e => String(e.value ?? e.innerText ?? e.textContent ?? '').slice(0, {_LONGEST_TEXT})"

Do = Callable[[Flow, Action], Awaitable[None]]


async def walk(flow: Flow, steps: Sequence[DeclaredStep]) -> None:
    """Go through the steps. Raises AssertionError with a sentence when something is not as it should be, Playwright's errors as they come."""
    for step in steps:
        async with flow.step(step.name, submits=step.submits):
            for action in step.do:
                await _ACTIONS[action.verb](flow, action)


def _put(flow: Flow, text: str) -> str:
    """With its variables. Secrets are not among them."""
    try:
        return insert(text, flow.vars)
    except KeyError as error:
        raise FlowError(f'there is no variable "{error.args[0]}"; there are: {", ".join(flow.vars) or "none"}') from None


def _typed(flow: Flow, text: str) -> str:
    """What goes into a field, secrets and all."""
    secrets = {found[1]: flow.secret(found[1]) for found in re.finditer(r"\{secret\.([a-z_][a-z0-9_]*)\}", text)}
    try:
        return insert(text, flow.vars, secrets)
    except KeyError:
        return _put(flow, text)


def _at(flow: Flow, target: str) -> Locator:
    """All that the target matches, seen or not."""
    return targets.locate(flow.page, targets.parse(target).filled(lambda text: _put(flow, text)))


def _seen(flow: Flow, target: str) -> Locator:
    """What of it can be seen: shops have every menu twice, for the phone and for the desk."""
    return _at(flow, target).filter(visible=True)


def _within(flow: Flow, action: Action) -> float:
    return action.within or flow.timeout


def _ms(seconds: float) -> float:
    return 1000 * seconds


def _where(page: Page) -> str:
    return f"the page was {urlsplit(page.url).path or page.url}"


async def _held(claim: Awaitable[None], page: Page, sentence: str) -> None:
    """Playwright's assertion, in words of ours."""
    try:
        await claim
    except AssertionError:
        if page.is_closed():
            raise
    else:
        return
    raise AssertionError(f"{sentence}; {_where(page)}")


# ---- what is done ----------------------------------------------------------------------------------------------------


async def _goto(flow: Flow, action: Action) -> None:
    path = _put(flow, action.value)
    answer = await flow.page.goto(path, timeout=_ms(flow.timeout))
    if answer and answer.status >= 400:
        raise AssertionError(f'"{path}" was answered with status {answer.status}')


async def _click(flow: Flow, action: Action) -> None:
    found = _seen(flow, action.value)
    if action.optional:
        try:
            await found.first.wait_for(timeout=_ms(action.within or _OPTIONAL))
        except TooLate:
            return
        found = found.first
    await found.click(timeout=_ms(_within(flow, action) if not action.optional else flow.timeout))


async def _fill(flow: Flow, action: Action) -> None:
    for target, text in action.value.items():
        value, field = _typed(flow, text), _seen(flow, target)
        await _quietly(field.fill(value, timeout=_ms(flow.timeout)), target, text, value)


async def _type(flow: Flow, action: Action) -> None:
    for target, text in action.value.items():
        value, field = _typed(flow, text), _seen(flow, target)
        typing = field.press_sequentially(value, delay=_KEYS, timeout=_ms(flow.timeout) + _KEYS * len(value))
        await _quietly(typing, target, text, value)


async def _quietly(typing: Awaitable[None], target: str, text: str, value: str) -> None:
    """Type something that may be secret. Playwright repeats in its errors what it was to type: that goes no further."""
    try:
        await typing
        return
    except Error as error:
        if value == text:
            raise
        kind = TooLate if isinstance(error, TooLate) else Error
        first = next(iter(error.message.splitlines()), "").replace(value, "[hidden]")
    raise kind(f'"{target}" could not be filled in: {first}')


async def _check(flow: Flow, action: Action) -> None:
    for target in action.value:
        await _at(flow, target).set_checked(action.verb == "check", timeout=_ms(flow.timeout))


async def _select(flow: Flow, action: Action) -> None:
    for target, option in action.value.items():
        await _seen(flow, target).select_option(_put(flow, option), timeout=_ms(flow.timeout))


async def _press(flow: Flow, action: Action) -> None:
    if isinstance(action.value, str):
        await flow.page.keyboard.press(action.value)
        return
    for target, key in action.value.items():
        await _seen(flow, target).press(key, timeout=_ms(flow.timeout))


async def _scroll(flow: Flow, action: Action) -> None:
    if action.value in {"top", "bottom"}:
        await flow.page.evaluate(f"scrollTo(0, {'0' if action.value == 'top' else 'document.documentElement.scrollHeight'})")
    else:
        await _seen(flow, action.value).first.scroll_into_view_if_needed(timeout=_ms(flow.timeout))


async def _pause(_: Flow, action: Action) -> None:
    await asyncio.sleep(action.value)


async def _dialog(flow: Flow, action: Action) -> None:
    async def answer(dialog: Dialog) -> None:
        with contextlib.suppress(Error):                  # somebody else was quicker, or the page is gone
            await (dialog.accept() if action.value == "accept" else dialog.dismiss())
    flow.page.once("dialog", answer)


async def _eval(flow: Flow, action: Action) -> None:
    result = await flow.page.evaluate(action.value, flow.vars)
    if action.into:
        flow.vars[action.into] = _short(result if isinstance(result, str) else "" if result is None else str(result))


# ---- what is looked for ----------------------------------------------------------------------------------------------


async def _see(flow: Flow, action: Action) -> None:
    seconds = _within(flow, action)
    for target in action.value:
        claim = expect(_seen(flow, target).first).to_be_visible(timeout=_ms(seconds))
        await _held(claim, flow.page, f'"{target}" was not seen within {seconds:g} s')


async def _see_not(flow: Flow, action: Action) -> None:
    seconds = _within(flow, action)
    for target in action.value:
        claim = expect(_seen(flow, target)).to_have_count(0, timeout=_ms(seconds))
        await _held(claim, flow.page, f'"{target}" was to be seen for {seconds:g} s and should not be')


async def _enabled(flow: Flow, action: Action) -> None:
    seconds = _within(flow, action)
    for target in action.value:
        claim = expect(_seen(flow, target).first).to_be_enabled(timeout=_ms(seconds))
        await _held(claim, flow.page, f'"{target}" could not be used within {seconds:g} s')


async def _count(flow: Flow, action: Action) -> None:
    least, found, seconds = action.min if action.min is not None else int(action.max is None), _seen(flow, action.value), _within(flow, action)
    try:
        if least:
            await expect(found.nth(least - 1)).to_be_attached(timeout=_ms(seconds))
        if action.max is not None:
            await expect(found.nth(action.max)).not_to_be_attached(timeout=_ms(seconds))
    except AssertionError:
        if flow.page.is_closed():
            raise
    else:
        return
    wanted = f"at least {least}" if least else f"at most {action.max}"
    if least and action.max is not None:
        wanted = f"{least} to {action.max}" if action.max > least else str(least)
    raise AssertionError(f'"{action.value}" was there {await found.count()} times, not {wanted}; {_where(flow.page)}')


async def _url(flow: Flow, action: Action) -> None:
    wanted, seconds = _put(flow, action.value), _within(flow, action)
    try:
        await flow.page.wait_for_url(lambda url: _fits(url, wanted), wait_until="domcontentloaded", timeout=_ms(seconds))
    except TooLate:
        pass
    else:
        return
    raise AssertionError(f'the address did not become "{action.value}" within {seconds:g} s; {_where(flow.page)}')


async def _title(flow: Flow, action: Action) -> None:
    text, seconds = _put(flow, action.value), _within(flow, action)
    wanted: str | re.Pattern[str] = re.compile(re.escape(text), re.IGNORECASE)
    if found := re.fullmatch(r"/(.+)/(i?)", text):
        wanted = re.compile(found[1], re.IGNORECASE if found[2] else 0)
    elif found := re.fullmatch(r'"(.+)"', text):
        wanted = found[1]
    try:
        await expect(flow.page).to_have_title(wanted, timeout=_ms(seconds))
    except AssertionError:
        if flow.page.is_closed():
            raise
    else:
        return
    raise AssertionError(f"the title did not become {text} within {seconds:g} s: it is {await _titled(flow.page)}; {_where(flow.page)}")


async def _titled(page: Page) -> str:
    try:
        async with asyncio.timeout(_GRACE):                # a page that loops does not answer
            return f'"{(await page.title())[:100]}"'
    except TimeoutError:
        return "unknown"


async def _capture(flow: Flow, action: Action) -> None:
    flow.vars[action.into or ""] = await _text(flow, action)


async def _order(flow: Flow, action: Action) -> None:
    flow.order(await _text(flow, action))


async def _text(flow: Flow, action: Action) -> str:
    """What a thing on the page says, or the part of it that matches; waited for until it is there."""
    seconds, found = _within(flow, action), _seen(flow, action.value).first
    ends, text = asyncio.get_running_loop().time() + seconds, None
    while (left := ends - asyncio.get_running_loop().time()) > 0:
        try:
            text = str(await found.evaluate(_TEXT, timeout=_ms(left)))
        except TooLate:
            break
        if kept := _kept(text, action.pattern):
            return _short(kept)
        await asyncio.sleep(_OFTEN)
    said = "was not seen" if text is None else "said nothing that fits the pattern" if action.pattern else "stayed empty"
    raise AssertionError(f'"{action.value}" {said} within {seconds:g} s; {_where(flow.page)}')


def _kept(text: str, pattern: str | None) -> str:
    if not pattern:
        return text
    found = compiled(pattern, _OPTIONS).search(text.encode("utf-8", "replace"))
    return (found[found.re.groups] or b"").decode("utf-8", "replace") if found else ""


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_KEPT]


# ---- clicks that are answered ----------------------------------------------------------------------------------------


async def _click_and_wait(flow: Flow, action: Action) -> None:
    async with _answered(flow, action):
        await _seen(flow, action.value).click(timeout=_ms(_within(flow, action)))


async def _submit(flow: Flow, action: Action) -> None:
    async with _answered(flow, action):
        await flow.submit(_seen(flow, action.value))


@contextlib.asynccontextmanager
async def _answered(flow: Flow, action: Action) -> AsyncIterator[None]:
    """Waits, after what is done inside, for the answer to the request that the action names, if it names one."""
    if action.path is None:
        yield
        return
    wanted, seconds, done = _put(flow, action.path), _within(flow, action), False
    try:
        async with flow.page.expect_response(lambda answer: _fits(answer.url, wanted), timeout=_ms(seconds)) as info:
            yield
            done = True
    except TooLate:
        if not done:
            raise
    else:
        _approve(await info.value, action)
        return
    raise AssertionError(f'no request to "{action.path}" was answered within {seconds:g} s after the click on "{action.value}"; {_where(flow.page)}')


def _approve(answer: Response, action: Action) -> None:
    if answer.status != action.status if action.status else answer.status >= 400:
        wanted = f", not {action.status}" if action.status else ""
        raise AssertionError(f'"{action.path}" was answered with status {answer.status}{wanted} after the click on "{action.value}"')


def _fits(address: str, wanted: str) -> bool:
    """Whether an address is the one that is meant: its path, with its query only where that is named too; * stands for anything."""
    parts = urlsplit(address)
    host = f"{parts.scheme}://{parts.netloc}" if "://" in wanted else ""
    if "?" in wanted:
        return _matches(f"{host}{parts.path or '/'}?{parts.query}", wanted)
    return _matches(host + (parts.path.rstrip("/") or "/"), wanted.rstrip("/") or "/") or _matches(host + (parts.path or "/"), wanted)


def _matches(text: str, wanted: str) -> bool:
    """Each piece between two * must come, one behind the other."""
    first, *pieces = wanted.split("*")
    if not pieces:
        return text == first
    if not text.startswith(first) or not text.endswith(pieces[-1]) or len(text) < len(first) + len(pieces[-1]):
        return False
    at, end = len(first), len(text) - len(pieces[-1])
    for piece in pieces[:-1]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


_ACTIONS: dict[str, Do] = {
    "goto": _goto, "click": _click, "fill": _fill, "type": _type, "check": _check, "uncheck": _check, "select": _select, "press": _press,
    "see": _see, "see_not": _see_not, "enabled": _enabled, "count": _count, "url": _url, "title": _title, "capture": _capture, "order": _order,
    "click_and_wait": _click_and_wait, "submit": _submit, "dialog": _dialog, "scroll": _scroll, "pause": _pause, "eval": _eval,
}
