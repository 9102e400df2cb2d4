# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The commit that records name."""

import subprocess

import pytest

from sim import checkout


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout with a commit of two files."""
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    monkeypatch.setattr(checkout.git, "__kwdefaults__", {"root": tmp_path})
    for name in ("hw/a.py", "docs/b.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1")
    checkout.git("init", "-q")
    checkout.git("add", ".")
    checkout.git("-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "first")
    return tmp_path


def test_a_changed_file_is_told_where_it_counts(folder):
    clean = checkout.git("rev-parse", "HEAD")
    assert checkout.commit() == checkout.commit("hw") == clean
    (folder / "docs" / "b.md").write_text("2")
    assert (checkout.commit(), checkout.commit("docs"), checkout.commit("hw")) == (clean + "+", clean + "+", clean)


def test_a_file_that_git_does_not_track_counts_on_demand(folder):
    clean = checkout.commit()
    (folder / "hw" / "new.py").write_text("")
    assert checkout.commit("hw") == clean
    assert checkout.commit("hw", untracked=True) == clean + "+"
    assert checkout.commit("docs", untracked=True) == clean


def test_no_checkout(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        checkout.git("rev-parse", "HEAD", root=tmp_path)
