# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The examples of docs/library.md, run one after another in one namespace: each prints what the page says."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tellme

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_examples():
    assert len(EXAMPLES) == PAGE.read_text("utf-8").count("```python\n") >= 6
    namespace: dict[str, object] = {}
    for code, output in EXAMPLES:
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard):
            exec(compile(code, str(PAGE), "exec"), namespace)
        assert heard.getvalue() == output


def test_everything_public_is_there():
    assert all(getattr(tellme, name) is not None for name in tellme.__all__)
    with pytest.raises(AttributeError) as caught:
        tellme.nothing  # noqa: B018
    assert str(caught.value) == "module 'tellme' has no attribute 'nothing'"


def test_importing_the_package_is_quick():
    """No part is imported before it is used: the command line's --help does not wait for NumPy."""
    code = "import sys, tellme; sys.exit(any(name in sys.modules for name in ('numpy', 'safetensors', 'serial')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
