# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The page at ``/``: one file of HTML, CSS and JavaScript, which asks no other host for anything."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib import resources

__all__ = ["page"]


def page() -> tuple[bytes, str]:
    """The page, and the Content-Security-Policy that lets it run its own script and style and ask its own server."""
    content = (resources.files("tellme") / "serve" / "page.html").read_bytes()

    def hashes(tag: str) -> str:
        inside = re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), content, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in inside)

    policy = (f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; "
              "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    return content, policy
