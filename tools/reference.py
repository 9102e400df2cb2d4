# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tools.reference``: static pages of the public docstrings, of the host package and the gateware, by pdoc.

The pages are written to build/reference; index.html says what to read.  Exit code 1, with a line a fault: a public name (in
``__all__``) without a docstring, or, of a constant, without a comment ``#:``; a role such as ``:class:`Board``` whose name is on
no page; a link to nowhere; a warning of pdoc.
"""

import argparse
import ast
import builtins
import html
import importlib
import importlib.util
import pkgutil
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pdoc.doc
import pdoc.render
from amaranth.hdl import UnusedElaboratable

__all__ = ["Docs", "Page", "docstring_html", "main", "modules", "page_of", "undocumented", "write_pages"]

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "reference"
PACKAGES = ("tellme", "hw")
#: The command line's own modules: ``tellme-host --help`` describes it.
LEFT_OUT = ("tellme.cli",)
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([^`]+)`")
CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
#: What to read, and where; a target is a module, or NAME of a module.
INDEX = (
    ("The host package", (
        ("tellme", "what a program uses: open a board, load a model, generate, measure"),
        ("tellme.runtime", "boards, sessions, sampling and the loop that makes tokens"),
        ("tellme.models", "model files: the container, importers, exporters, tokenizers"),
        ("tellme.compiler", "from a model to a board's memory and program, and what inspect finds"),
        ("tellme.golden", "the golden model: each bit of the gateware, in NumPy"),
        ("tellme.link", "packets between host and board"))),
    ("The specification", (
        ("tellme.spec", "formats, memory map, program, and numbers: what gateware, golden model and host share"),
        ("tellme.spec.config", "the parameters of a core, and the presets"))),
    ("The gateware", (
        ("hw.top", "the core: which units there are, and how they are connected"),
        ("hw.tlmm.engine", "products with ternary matrices by table lookup"),
        ("hw.fused.pipeline", "norms, RoPE, activation, quantisation"),
        ("hw.attention.decode", "attention of one token; hw.attention.prefill: of a chunk of them"),
        ("hw.lm_head.lm_head", "logits and the best 64"), ("hw.lm_head.chunk", "the same for each token of a chunk"),
        ("hw.memory", "the memory and its clients; hw.memory.sdr: the SDRAM's controller"),
        ("hw.link.link", "packets at the board's end"),
        ("hw.lib", "what units share: streams, stages, floats, layouts of control"))),
)


@dataclass
class Docs:
    """What a module's source says of its names."""

    #: Dotted name below the module -> docstring, or comments ``#:``; empty: it has none.
    texts: dict[str, str] = field(default_factory=dict)
    #: The names that are defined here, and not imported.
    own: set[str] = field(default_factory=set)


@dataclass
class Page:
    """A module with its page."""

    module: ModuleType
    docs: Docs

    @property
    def path(self) -> str:
        """Of its page, below the folder of all pages."""
        return page_of(self.module.__name__)


def page_of(module: str) -> str:
    """Path of a module's page, as pdoc has it."""
    return module.replace(".", "/") + ".html"


def modules() -> list[str]:
    """Names of the modules that have pages."""
    names = []
    for package in PACKAGES:
        found = importlib.import_module(package)
        names.append(package)
        names += [m.name for m in pkgutil.walk_packages(found.__path__, f"{package}.")]
    return sorted(n for n in names if not any(n == out or n.startswith(f"{out}.") for out in LEFT_OUT))


def read_docs(source: str) -> Docs:
    """Docstrings and comments ``#:`` of a module's names and its classes' members."""
    docs, lines = Docs(), source.splitlines()

    def comment(node: ast.stmt) -> str:
        """The lines of ``#:`` just ahead of a statement, or what its own line ends with."""
        found: list[str] = []
        at = node.lineno - 2
        while at >= 0 and lines[at].strip().startswith("#:"):
            found.insert(0, lines[at].strip()[2:].strip())
            at -= 1
        if not found and "#: " in (last := lines[(node.end_lineno or node.lineno) - 1]):
            found = [last.split("#: ", 1)[1]]
        return "\n".join(found)

    def walk(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                docs.own.add(prefix + node.name)
                docs.texts[prefix + node.name] = ast.get_docstring(node) or ""
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(name, ast.Name):
                            docs.own.add(prefix + name.id)
                            docs.texts[prefix + name.id] = comment(node)

    walk(ast.parse(source).body, "")
    return docs


def pages(names: Sequence[str]) -> dict[str, Page]:
    """The modules' pages, by name."""
    found = {}
    for name in names:
        module = importlib.import_module(name)
        assert module.__file__ is not None
        # A name that is imported when it is first asked for.
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
        found[name] = Page(module, read_docs(Path(module.__file__).read_text()))
    return found


def undocumented(page: Page) -> Iterator[str]:
    """A line for each public name of a module that is defined there and has no docstring or comment."""
    if not page.module.__doc__:
        yield f"{page.module.__name__}: the module has no docstring"
    for name in getattr(page.module, "__all__", ()):
        if name in page.docs.own and not page.docs.texts[name] and not name.startswith("__"):
            yield f"{page.module.__name__}.{name}: no docstring"


class Names:
    """Where the names of docstrings are: on which page, under which anchor."""

    def __init__(self, all_pages: Mapping[str, Page]):
        self._pages = all_pages

    def text(self, module: str, name: str) -> str:
        """What the source says of a name; empty where it says nothing or there is no such name."""
        return self._pages[module].docs.texts.get(name, "") if module in self._pages else ""

    def find(self, target: str, module: str, within: str) -> tuple[str, str] | None:
        """(module, dotted name in it) of what a docstring calls ``target``; the docstring is that of ``within`` in ``module``."""
        inner = within
        while True:
            name = f"{inner}.{target}" if inner else target
            if (found := self.on_page(module, name)) is not None:
                return found
            if not inner:
                break
            inner = inner.rpartition(".")[0]
        parts = target.split(".")
        for cut in range(len(parts), 0, -1):
            if (home := ".".join(parts[:cut])) in self._pages:
                rest = ".".join(parts[cut:])
                return self.on_page(home, rest) if rest else (home, "")
        return None

    def on_page(self, module: str, name: str) -> tuple[str, str] | None:
        """A name of a module, also one that it has from another."""
        page = self._pages[module]
        first, _, rest = name.partition(".")
        public = getattr(page.module, "__all__", ())
        if name in page.docs.own and (first in public or not public):
            return module, name
        value = getattr(page.module, first, None)
        home = getattr(value, "__module__", None)
        if first not in page.docs.own and isinstance(home, str) and home in self._pages and home != module:
            own = getattr(value, "__name__", first)
            return self.on_page(home, f"{own}.{rest}" if rest else own)
        # A member that a class has from its base.
        if rest and isinstance(value, type):
            for base in value.__mro__[1:]:
                if base.__module__ in self._pages and (found := self.on_page(base.__module__, f"{base.__name__}.{rest}")):
                    return found
        return None


def docstring_html(text: str, link: Mapping[str, str]) -> str:
    """A docstring as HTML: paragraphs, lists, indented examples; code in backquotes; ``link`` has the href of each role."""
    def inline(part: str) -> str:
        def code(match: re.Match[str]) -> str:
            return f"<code>{match[1] or match[2]}</code>"

        def role(match: re.Match[str]) -> str:
            short = match[2].rpartition(".")[2] if match[1] else match[2]
            href = link.get(match[2])
            shown = f"<code>{short}</code>"
            return shown if href is None else f'<a href="{href}">{shown}</a>'

        pieces, at = [], 0
        for match in ROLE.finditer(part):
            pieces += [CODE.sub(code, html.escape(part[at:match.start()], quote=False)), role(match)]
            at = match.end()
        return "".join([*pieces, CODE.sub(code, html.escape(part[at:], quote=False))])

    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        marks = [re.match(r"\s*(-|\d+\.) ", line) for line in lines]
        if all(line.startswith("    ") for line in lines):
            out.append(f"<pre><code>{html.escape(block, quote=False)}</code></pre>")
        elif marks[0] is not None:
            items: list[str] = []
            for line, mark in zip(lines, marks, strict=True):
                if mark is not None:
                    items.append(line[mark.end():])
                else:
                    items[-1] += "\n" + line.strip()
            kind = "ul" if marks[0][1] == "-" else "ol"
            out.append(f"<{kind}>" + "".join(f"<li>{inline(item)}</li>" for item in items) + f"</{kind}>")
        else:
            out.append(f"<p>{inline(block)}</p>")
    return "\n\n".join(out)


def fill_in(module: pdoc.doc.Module, page: Page, names: Names) -> Iterator[str]:
    """Give pdoc's objects of a module their docstrings as HTML; a line for each role that names nothing."""
    up = "../" * page.module.__name__.count(".")

    def hrefs(text: str, home: str, within: str) -> Iterator[tuple[str, str]]:
        for match in ROLE.finditer(text):
            target = match[2]
            found = names.find(target, home, within)
            if found is not None:
                # pdoc makes links of dotted names that it finds in the text, those within a link too.
                yield target, up + page_of(found[0]) + ("#" + found[1].replace(".", "%2E") if found[1] else "")
            elif not hasattr(builtins, target) and not is_module(target):
                problems.append(f"{home}{'.' if within else ''}{within}: {match[0]} names nothing that has a page")

    problems: list[str] = []

    def convert(item: pdoc.doc.Doc, home: str, within: str) -> None:
        text = names.text(page.module.__name__, item.qualname)
        if text or not names.text(home, within):
            home, within = page.module.__name__, item.qualname
        text = text or names.text(home, within) or item.docstring
        item.docstring = docstring_html(text, dict(hrefs(text, home, within))) if text else ""
        if isinstance(item, pdoc.doc.Class):
            for member in item.own_members:
                convert(member, *member.taken_from)

    module.docstring = docstring_html(page.module.__doc__ or "",
                                      dict(hrefs(page.module.__doc__ or "", page.module.__name__, "")))
    for member in module.own_members if hasattr(module, "own_members") else module.members.values():
        if not isinstance(member, pdoc.doc.Module):
            convert(member, *member.taken_from)
    yield from problems


def is_module(name: str) -> bool:
    """Whether a module of this name, which has no page, is there."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class Anchors(HTMLParser):
    """Ids and links of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if identifier := given.get("id"):
            self.ids.add(identifier)
        if tag == "a" and (href := given.get("href")):
            self.links.append(href)


def broken_links(folder: Path) -> Iterator[str]:
    """A line for each link between pages that leads nowhere."""
    found = {path: Anchors(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    for path, anchors in found.items():
        for link in dict.fromkeys(anchors.links):
            if link.startswith(("https:", "http:")):
                continue
            target, _, name = unquote(link).partition("#")
            there = (path.parent / target).resolve() if target else path
            if there not in found:
                yield f"{path.relative_to(folder)}: a link to {link}, which is no page"
            elif name and name not in found[there].ids:
                yield f"{path.relative_to(folder)}: a link to {link}, which that page does not have"


def index_html(names: Sequence[str]) -> str:
    """The page that says what to read."""
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8"><title>tellme: reference</title>',
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             "<style>body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font-family: system-ui, sans-serif; "
             "line-height: 1.5 } code { font-size: 0.95em }</style></head><body>", "<h1>tellme: reference</h1>",
             "<p>The docstrings of the host package and of the gateware. A unit's docstring is its contract: what it computes, "
             "ranges, latency, interval, errors. The documents in <code>docs/</code> explain how the parts work together: begin "
             "with <code>docs/architecture.md</code> for the gateware and <code>docs/library.md</code> for the host.</p>"]
    for title, entries in INDEX:
        parts.append(f"<h2>{title}</h2><ul>")
        parts += [f'<li><a href="{page_of(name)}"><code>{name}</code></a>: {html.escape(text)}</li>' for name, text in entries]
        parts.append("</ul>")
    parts.append("<h2>All modules</h2><ul>")
    for name in names:
        first = (importlib.import_module(name).__doc__ or "").strip().splitlines()[:1]
        parts.append(f'<li><a href="{page_of(name)}"><code>{name}</code></a>: {docstring_html("".join(first), {})[3:-4]}</li>')
    return "\n".join([*parts, "</ul></body></html>", ""])


def write_pages(folder: Path, names: Sequence[str]) -> list[str]:
    """Write all pages into a new folder; what is wrong with them, a line each."""
    found = pages(names)
    problems = [line for page in found.values() for line in undocumented(page)]
    lookup = Names(found)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Of units that other code in this process made and dropped: it comes whenever the garbage collector runs.
        warnings.simplefilter("ignore", UnusedElaboratable)
        documents = {name: pdoc.doc.Module(page.module) for name, page in found.items()}
        for name, document in documents.items():
            problems += fill_in(document, found[name], lookup)
        # Names of the roles and the code are links already; a docstring is HTML, which Markdown leaves as it is.
        pdoc.render.configure(docformat="markdown", include_undocumented=False, show_source=False, search=True,
                              footer_text="tellme")
        shutil.rmtree(folder, ignore_errors=True)
        for name, document in documents.items():
            path = folder / page_of(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pdoc.render.html_module(document, documents))
        (folder / "index.html").write_text(index_html(names))
        (folder / "search.js").write_text(pdoc.render.search_index(documents))
    problems += [f"pdoc: {str(w.message).splitlines()[0]}" for w in caught if not issubclass(w.category, ResourceWarning)]
    return problems + list(broken_links(folder))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the pages go; it is removed first")
    args = parser.parse_args(argv)
    names = modules()
    problems = write_pages(args.out, names)
    for line in problems:
        print(line, file=sys.stderr)
    print(f"{len(names)} modules, {len(problems)} problems; read {args.out / 'index.html'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
