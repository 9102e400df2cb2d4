# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""docs/serve.md: its examples give what the page says, and it names all that there is."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import httpx

from tellme.cli import build_parser
from tellme.serve import requests
from tests.serve.servers import golden, server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text("utf-8")
SERVE = Path(requests.__file__).parent
ADDRESS = "http://127.0.0.1:8080"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def table(head):
    """The first column of the table that has a head, cut at the commas."""
    rows = PAGE.split(f"| {head} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [cell for row in rows for cell in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def test_examples():
    [example] = blocks("python")
    output = PAGE.split(f"```python\n{example}```\n\n```text\n", 1)[1].split("```", 1)[0]
    [curl], [answer] = blocks("sh"), blocks("json")
    words = shlex.split(curl.replace("\\\n", " "))
    with server(golden()) as found:
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard):
            exec(compile(example.replace(ADDRESS, found.url), "serve.md", "exec"), {})
        assert heard.getvalue() + "\n" == output
        assert words[:2] == ["curl", f"{ADDRESS}/v1/completions"] and words[2::2] == ["-H", "-d"]
        name, _, value = words[3].partition(": ")
        got = httpx.post(words[1].replace(ADDRESS, found.url), headers={name: value}, content=words[5], timeout=60).json()
    want = json.loads(answer)
    assert got.keys() == want.keys() and got["timings"].keys() == want["timings"].keys()
    assert [got[part] for part in ("choices", "object", "model")] == [want[part] for part in ("choices", "object", "model")]
    assert got["usage"] | {"prompt_tokens_details": {}} == want["usage"] | {"prompt_tokens_details": {}}
    assert all(got["timings"][part] == value for part, value in want["timings"].items() if type(value) is not float and
               part not in ("board", "cached_n"))
    assert set(table("field of `timings`")) == got["timings"].keys()


def test_every_path_option_and_field_is_there():
    with server(golden()) as found:
        paths = {re.sub(r"\{.*\}", "NAME", path) for path in found.paths}
        metrics = re.findall(r"^# TYPE (\S+) (\S+)$", httpx.get(f"{found.url}/metrics").text, re.MULTILINE)
    assert {cell.partition(" ")[2] for cell in table("path")} == paths
    for name, kind in metrics:
        row = next(row for row in PAGE.splitlines() if row.startswith("| ") and f"`{name}`" in row)
        assert f"| {kind} |" in row
    assert {name for name in re.findall(r"`(tellme_\w+)`", PAGE)} == {name for name, _ in metrics}
    assert len(metrics) > 10
    options = build_parser()._subparsers._group_actions[0].choices["serve"]._option_string_actions
    assert {cell.split()[0] for cell in table("option")} == {name for name in options if name.startswith("--")} - {"--help"}
    fields = {cell for cell in table("field of a request") if "." not in cell}
    assert fields == requests._COMMON - {"stream_options"} | {"prompt", "messages", "max_completion_tokens"}
    for name in requests._IGNORED:
        assert f"`{name}`" in PAGE


def test_every_status_and_code_is_there():
    rows = PAGE.split("| status | code | when |\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    codes = [code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split(" | ")[1])]
    source = "".join(path.read_text("utf-8") for path in SERVE.glob("*.py"))
    assert set(codes) == set(re.findall(r'code="(\w+)"', source)) | {"context_length_exceeded"}
    statuses = {int(row.split(" | ")[0].strip("| ")) for row in rows}
    assert set(map(int, re.findall(r"ServeError\((\d{3})", source))) <= statuses
