# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A headless Chromium, where there is one: of the system, or one that playwright has installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["NAMES", "chromium"]

#: Programs that are Chromium; the first that is there is taken, and without one playwright's own.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser for the time of the block; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with api.sync_playwright() as playwright:
        try:
            # The sandbox of the browser wants rights that a container's user may lack; it loads the server's page alone.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium starts: {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()
