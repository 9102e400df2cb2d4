# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The page at /: valid, asking no other host; and at work in headless Chromium, where there is one."""

import re
import time
from html.parser import HTMLParser

import httpx
import pytest

from tellme.runtime.sampling import Sampling
from tellme.serve.app import Settings
from tellme.serve.page import page
from tellme.spec.memory import ACCOUNT
from tests.serve.browsers import chromium
from tests.serve.servers import CHAT_MODEL, Killable, golden, killable, reference, server, until

VOID = {"meta", "link", "input", "br", "img", "hr"}
PROMPT, FROG = "Once upon a time", "Once upon a time, a frog"


def test_each_activity_has_words():
    [words] = re.findall(r"const WHAT = \{(.*?)\};", page()[0].decode(), re.DOTALL)
    assert re.findall(r"(\w+): \"", words) == list(ACCOUNT)


class Checker(HTMLParser):
    """Elements are closed in the order in which they were opened, ids are there once, labels and texts have elements."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.links = [], [], [], []
        self.declared = ""

    def handle_decl(self, decl):
        self.declared = decl

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append(tag)
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute twice: {attrs}"
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src", "action", "data") if name in values]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def test_it_is_valid_and_asks_no_other_host():
    content, policy = page()
    text = content.decode("utf-8")
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open and checker.declared == "DOCTYPE html" and len(checker.ids) == len(set(checker.ids)) > 10
    assert {"html", "head", "title", "body", "h1"} <= set(checker.tags)
    assert checker.links == ["data:,"]
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"^<!--.*-->$", "", text, flags=re.MULTILINE))
    used = set(re.findall(r'(?:at|show)\("([a-z]+)"', text))
    assert len(used) > 10 and used <= set(checker.ids)
    assert "'unsafe" not in policy and policy.count("'sha256-") == 2 and "default-src 'none'" in policy
    assert 'name="viewport"' in text and "SPDX-License-Identifier" in text


def test_it_is_served():
    with server(golden()) as found:
        answer = httpx.get(found.url)
    assert answer.status_code == 200 and answer.content == page()[0]
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and answer.headers["content-security-policy"]


def open_page(browser, found, **settings):
    """The page, and what it asked for and complained of."""
    asked, wrong = [], []
    tab = browser.new_page(**settings)
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.goto(found.url)
    return tab, asked, wrong


def wait(tab, condition, seconds=60.0):
    """Wait until a condition holds; the page's policy lets no test evaluate texts as JavaScript in it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        tab.wait_for_timeout(20)


def test_a_text_in_chromium():
    slow = Killable(pause=0.02)
    with chromium() as browser, server(killable(slow)) as found:
        tab, asked, wrong = open_page(browser, found, viewport={"width": 360, "height": 740})
        wait(tab, lambda: "stories-1m" in tab.text_content("#model"))
        tab.fill("#prompt", PROMPT)
        tab.fill("#tokens", "24")
        tab.fill("#temperature", "0")
        tab.click("#go")
        # Text comes while the run goes on.
        wait(tab, lambda: tab.locator("#text .model").count() and tab.is_disabled("#go"))
        wait(tab, lambda: tab.is_enabled("#go"))
        text = reference(PROMPT, 24)[0]
        assert tab.text_content("#text") == PROMPT + text
        assert re.fullmatch(r"\d+ ms|\d+\.\d s", tab.text_content("#first")) and float(tab.text_content("#rate")) > 0
        assert tab.text_content("#count") == "5 + 24" and "MHz" in tab.text_content("#board")
        rows = tab.locator("#cycles tr")
        assert rows.count() == 9 and "weights are multiplied" in tab.text_content("#cycles")
        # On, and stop in the middle.
        slow.pause = 0.05
        tab.fill("#tokens", "200")
        made = slow.tokens_made
        tab.click("#go")
        until(lambda: slow.tokens_made > made + 3)
        tab.click("#stop")
        until(lambda: slow.stops == 1)
        wait(tab, lambda: tab.is_enabled("#go"))
        assert tab.text_content("#text").startswith(PROMPT + text) and tab.text_content("#error") == ""
        tab.click("#clear")
        assert tab.text_content("#text") == "" and wrong == []
        assert {url.removeprefix(found.url) for url in asked if not url.startswith("data:")} == {"/", "/v1/models",
                                                                                                "/v1/completions"}


@pytest.mark.parametrize("width", [320, 412])
def test_on_a_phone(width):
    """Nothing is wider than the screen, fingers find the buttons, and fields do not make the phone zoom in."""
    with chromium() as browser, server(killable(Killable())) as found:
        # Needs what the browser needs.
        from docs.screenshot import PHONE, fill_in
        tab, _, wrong = open_page(browser, found, **PHONE | {"viewport": {"width": width, "height": 640}})
        fill_in(tab)
        text = reference(FROG, 32, Sampling(temperature=0.6, seed=1))[0]
        assert tab.text_content("#text") == FROG + text
        # A word without an end, by the person and thus by the page.
        tab.fill("#prompt", "w" * 300)
        tab.fill("#tokens", "1")
        tab.tap("#go")
        wait(tab, lambda: tab.is_enabled("#go") and tab.text_content("#count").endswith("+ 1"))
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for element in tab.locator("button, input, textarea").all():
            box = element.bounding_box()
            assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= width
            assert float(element.evaluate("e => getComputedStyle(e).fontSize").removesuffix("px")) >= 16
        assert wrong == []


def test_seconds_where_milliseconds_are_many():
    with chromium() as browser, server(killable(Killable(pause=0.01))) as found:
        tab, _, _ = open_page(browser, found)
        assert tab.evaluate("[9, 9999.4, 42195.1].map(duration)") == ["9 ms", "9999 ms", "42.2 s"]


def test_a_chat_and_a_key_in_chromium():
    with chromium() as browser, server(golden(CHAT_MODEL), model=CHAT_MODEL, settings=Settings(api_key="sesame")) as found:
        tab, _, wrong = open_page(browser, found)
        wait(tab, lambda: "API key is wanted" in tab.text_content("#error"))
        assert any("401" in line for line in wrong)
        tab.fill("#key", "sesame")
        tab.press("#key", "Tab")
        wait(tab, lambda: "a chat" in tab.text_content("#model"))
        tab.fill("#tokens", "6")
        answers = 0
        for turn in ("Hello", "And you?"):
            tab.fill("#prompt", turn)
            tab.press("#prompt", "Control+Enter")
            answers += 1
            wait(tab, lambda answers=answers: tab.locator("#text .model").count() == answers)
            wait(tab, lambda: tab.is_enabled("#go"))
        assert tab.locator("#text .you").count() == 2 == tab.locator("#text .model").count()
        assert tab.text_content("#error") == "" and "of" in tab.text_content("#cached")
