# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m docs.screenshot`` takes docs/images/page.png: the server's page on a phone, after a text from the simulated board.

The server is ``tellme-host serve`` as a process, the browser headless Chromium, steered by the package playwright.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from tests.serve.browsers import NAMES

__all__ = ["PHONE", "PROMPT", "fill_in", "serving"]

ROOT = Path(__file__).resolve().parents[1]
PROMPT, TOKENS, TEMPERATURE, SEED = "Once upon a time, a frog", "32", "0.6", "1"
#: A phone's screen, in CSS pixels, with two of the picture's pixels each.
PHONE: dict[str, Any] = {"viewport": {"width": 412, "height": 860}, "device_scale_factor": 2, "is_mobile": True,
                         "has_touch": True}
#: Milliseconds: a simulated board on a busy computer takes many seconds a token.
PATIENCE = 1_500_000


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The address of ``tellme-host serve`` with arguments, for the time of the block."""
    process = subprocess.Popen([sys.executable, "-m", "tellme.cli", "serve", "--port", "0", *arguments], cwd=ROOT,
                               stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = None
        while url is None:
            line = process.stderr.readline()
            if not line:
                raise SystemExit("the server did not start")
            sys.stderr.write(line)
            url = re.search(r"^serving .* at (http://[^;]*);", line)
        yield url.group(1)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def fill_in(page: Page) -> None:
    """Type the prompt and wait for the text's end."""
    for name, value in (("prompt", PROMPT), ("tokens", TOKENS), ("temperature", TEMPERATURE), ("seed", SEED)):
        page.fill(f"#{name}", value)
    page.click("#go")
    expect(page.locator("#board")).to_contain_text("tokens/s", timeout=PATIENCE)
    expect(page.locator("#go")).to_be_enabled(timeout=PATIENCE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshot")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "images" / "page.png")
    parser.add_argument("--device", default="sim", metavar="sim|PORT")
    args = parser.parse_args()
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with serving("--device", args.device) as url, sync_playwright() as playwright:
        # The sandbox of the browser wants rights that a container's user may lack; it loads the server's page alone.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(**PHONE)
        page.goto(url)
        fill_in(page)
        page.screenshot(path=args.output, full_page=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
