# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tools.reference on planted modules: what it writes, and each fault that it must name."""

import gc
import importlib
import sys

import pytest
from amaranth.hdl import Elaboratable, UnusedElaboratable

from tools import reference

GOOD = '''"""A module."""
__all__ = ["LIMIT", "Base", "Unit", "limit"]

#: The most there is, of :class:`Unit`.
LIMIT = 3
hidden = 4


class Base:
    """What units share."""

    def begin(self):
        """Begin."""


class Unit(Base):
    """y = x * x, a < b, for each of ``x_count``; see :func:`limit`, :meth:`begin` and :meth:`Base.begin`.

    - one
      more
    - two

        x = 1
    """

    #: Bits.
    width: int = 8


def limit():
    """See :mod:`planted_other`."""
'''
OTHER = '''"""Another; :class:`~planted_good.Unit` is there, and :mod:`subprocess` is Python's."""
__all__ = []
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Writes modules and gives their problems."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reference, "INDEX", ())

    def write(**sources):
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return reference.write_pages(tmp_path / "out", sorted(sources))

    yield write
    for name in [n for n in sys.modules if n.startswith("planted_")]:
        del sys.modules[name]


def test_pages_with_comments_code_and_links(planted, tmp_path):
    assert planted(planted_good=GOOD, planted_other=OTHER) == []
    page = (tmp_path / "out" / "planted_good.html").read_text()
    assert "y = x * x, a &lt; b, for each of <code>x_count</code>" in page
    assert "<li>one\nmore</li><li>two</li>" in page and "<pre><code>" in page
    assert "The most there is, of" in page and 'id="Unit.width"' in page and 'id="hidden"' not in page
    for href in ("planted_good.html#limit", "planted_good.html#Base%2Ebegin", "planted_other.html", "planted_good.html#Unit"):
        assert f'<a href="{href}">' in page, href
    other = (tmp_path / "out" / "planted_other.html").read_text()
    assert '<a href="planted_good.html#Unit"><code>Unit</code></a>' in other and "<code>subprocess</code>" in other
    assert "planted_good.html" in (tmp_path / "out" / "index.html").read_text()


def test_units_that_another_test_dropped_are_no_problem_of_a_page(planted, monkeypatch):
    class Dropped(Elaboratable):
        """Made, never elaborated, and part of a cycle: only the garbage collector removes it."""

        def elaborate(self, platform):
            raise AssertionError("nobody elaborates it")

    # Amaranth warns once anything in this process was elaborated.
    monkeypatch.setattr(UnusedElaboratable, "_MustUse__silence", False)
    fill_in = reference.fill_in

    def collect(*args):
        unit = Dropped()
        unit.itself = unit
        del unit
        gc.collect()
        return fill_in(*args)

    monkeypatch.setattr(reference, "fill_in", collect)
    assert planted(planted_good=GOOD, planted_other=OTHER) == []


@pytest.mark.parametrize(("old", "new", "problem"), [
    ("#: The most there is, of :class:`Unit`.\n", "", "planted_good.LIMIT: no docstring"),
    ('    """What units share."""\n', "", "planted_good.Base: no docstring"),
    ('"""A module."""', "", "planted_good: the module has no docstring"),
    (":func:`limit`", ":func:`most`", "planted_good.Unit: :func:`most` names nothing that has a page"),
    (":mod:`planted_other`", ":mod:`planted_nobody`", "planted_good.limit: :mod:`planted_nobody` names nothing that has a page"),
    (":func:`limit`", ":data:`hidden`", "planted_good.Unit: :data:`hidden` names nothing that has a page"),
])
def test_a_fault_is_named(planted, old, new, problem):
    assert GOOD.count(old) == 1
    assert problem in planted(planted_good=GOOD.replace(old, new), planted_other=OTHER)


def test_a_link_to_nowhere(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">b</a><a href="#x">x</a><a href="c.html">c</a></p>')
    (tmp_path / "b.html").write_text("<p></p>")
    assert list(reference.broken_links(tmp_path)) == ["a.html: a link to b.html#y, which that page does not have",
                                                      "a.html: a link to c.html, which is no page"]


def test_all_public_modules_have_pages():
    names = reference.modules()
    for name in ("tellme", "tellme.runtime.session", "tellme.spec.config", "hw.top", "hw.memory.sdr.controller"):
        assert name in names
    assert not [name for name in names if name.startswith("tellme.cli")]
