# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Mutants of an Amaranth source by rule: each is one small change of the text of one expression or statement.

The rules know what tools for plain Python do not: ``m.If``, ``Mux``, ``Signal`` and its width and init, statements added to a
domain.
A mutant's name is its file, its function, its rule, the text before and after, and its ordinal among the function's mutants that
agree in all of these.  Line numbers are no part of the name, so that a change elsewhere renames nothing.

Left alone: docstrings, messages, annotations, assertions, and the checks that end in ``raise`` (they make no gateware).
"""

import ast
import hashlib
import io
import tokenize
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

__all__ = ["RULES", "Mutant", "mutants_of", "mutants_of_file", "sources", "statement"]

#: What each rule changes.
RULES = {
    "operator": "an arithmetic or bitwise operator: + -, & |, << >>, ^ &, * +, // *, ** *, % //",
    "compare": "a comparison: == !=, < <=, > >=, in, is",
    "logic": "and, or",
    "unary": "~, - or not left out",
    "constant": "a number one more or one less; True, False",
    "condition": "m.If or m.Elif negated, always, never; a Python condition negated",
    "mux": "the arms of a Mux swapped",
    "order": "the first two parts of a Cat swapped",
    "reset": "a signal's value after reset",
    "width": "a signal, a port or a constant of a bit more or less; a range of double or half the numbers",
    "slice": "a slice without its top element, or one place higher",
    "drop": "an assignment, a change of state or a connection left out",
    "domain": "statements moved from comb to sync, or from sync to comb",
}
OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "&", ast.LShift: ">>", ast.RShift: "<<",
             ast.Mult: "+", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*"}
COMPARISONS = {ast.Eq: "!=", ast.NotEq: "==", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.In: "not in",
               ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}
#: Files whose benches are in another folder than the file.
OWN_UNITS = {"hw/memory/weights.py": "weights"}
#: Characters of each side of an operator that a mutant's name shows: enough to tell it, and few, so that a change of a long
#: expression's other end renames nothing.
SHOWN = 40


@dataclass(frozen=True)
class Mutant:
    """Characters ``start`` to ``end`` of ``file`` become ``text``.  The other fields are its name."""

    file: str
    function: str
    rule: str
    before: str
    after: str
    ordinal: int
    start: int = field(compare=False, default=0)
    end: int = field(compare=False, default=0)
    text: str = field(compare=False, default="", repr=False)

    @cached_property
    def key(self) -> str:
        """Twelve digits that stand for the name."""
        name = "\0".join((self.file, self.function, self.rule, self.before, self.after, str(self.ordinal)))
        return hashlib.sha256(name.encode()).hexdigest()[:12]

    @cached_property
    def unit(self) -> str:
        """The folder of the file's benches: that below hw, but for files with a folder of benches of their own."""
        parts = Path(self.file).parts
        return OWN_UNITS.get(self.file) or (parts[1] if len(parts) > 2 else Path(self.file).stem)

    def line(self) -> str:
        return f"{self.key} {self.file} {self.function} {self.rule} #{self.ordinal}: {self.before}  ->  {self.after}"

    def apply(self, source: str) -> str:
        """The file's text with the mutant."""
        return source[:self.start] + self.text + source[self.end:]


def squeezed(text: str) -> str:
    """Without comments and line ends."""
    return " ".join(" ".join(line.partition("  #")[0] for line in text.splitlines()).split())


def shortened(text: str, most: int = 2 * SHOWN) -> str:
    text = squeezed(text)
    return text if len(text) <= most else f"{text[:most // 2]} ... {text[-(most // 2):]}"


class Source:
    """A file's text, with places of the syntax tree as characters from its start."""

    def __init__(self, text: str):
        self.text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._tokens = [(self._starts[t.start[0] - 1] + t.start[1], self._starts[t.end[0] - 1] + t.end[1], t.string)
                        for t in tokenize.generate_tokens(io.StringIO(text).readline)
                        if t.type in (tokenize.OP, tokenize.NAME)]
        self._places = [start for start, _, _ in self._tokens]

    def place(self, line: int, column: int) -> int:
        """Of a line and the tree's column, which counts bytes."""
        text = self._lines[line - 1]
        return self._starts[line - 1] + (column if text.isascii() else len(text.encode()[:column].decode()))

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    def between(self, left: ast.AST, right: ast.AST) -> tuple[int, int]:
        """The operator between two operands: all that is no bracket."""
        start, end = self.span(left)[1], self.span(right)[0]
        i = bisect_left(self._places, start)
        found = []
        while i < len(self._tokens) and self._tokens[i][0] < end:
            if self._tokens[i][2] not in "()":
                found.append(self._tokens[i])
            i += 1
        return found[0][0], found[-1][1]


def name_of(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


def is_method(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def is_number(node: ast.AST | None) -> bool:
    """Whether an expression is a number by its looks, and no layout."""
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    if isinstance(node, ast.BinOp):
        return not isinstance(node.op, ast.BitOr)
    if isinstance(node, ast.Call):
        return name_of(node) in ("len", "max", "min", "bits_for", "exact_log2", "ceil_log2") or name_of(node).endswith("_bits")
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lower().endswith(("bits", "width", "size", "most"))


def is_shape(node: ast.AST | None) -> bool:
    """Whether an expression is the shape of a plain number."""
    return node is None or is_number(node) or (isinstance(node, ast.Call) and name_of(node) in ("range", "signed", "unsigned"))


class Finder(ast.NodeVisitor):
    """Walks a file and keeps the edits of all rules."""

    def __init__(self, file: str, text: str):
        self._file, self._source = file, Source(text)
        self._inside: list[str] = []
        #: Nodes that a rule has taken, so that the rule of constants leaves them.
        self._claimed: set[ast.AST] = set()
        self._count: Counter[tuple[str, ...]] = Counter()
        self.found: list[Mutant] = []

    # ------------------------------------------------------------------ edits

    def edit(self, rule: str, start: int, end: int, text: str, before: str, after: str) -> None:
        name = (".".join(self._inside) or "(module)", rule, before, after)
        self._count[name] += 1
        self.found.append(Mutant(self._file, name[0], rule, before, after, self._count[name], start, end, text))

    def ahead(self, start: int) -> str:
        """What stands before a place in its line."""
        return squeezed(self._source.text[max(0, start - SHOWN):start].rpartition("\n")[2])

    def replace(self, rule: str, node: ast.AST, text: str, *, placed: bool = False) -> None:
        """The node's text becomes another; ``placed``: the name has what stands before the node, too."""
        start, end = self._source.span(node)
        head = f"{self.ahead(start)} " if placed else ""
        self.edit(rule, start, end, text, head + shortened(self._source.of(node)), head + shortened(text))

    def swap(self, rule: str, node: ast.AST, place: tuple[int, int], new: str, *, wraps: bool) -> None:
        """The operator at ``place`` of ``node`` becomes another; ``wraps``: one that binds otherwise."""
        (start, end), (first, last), text = self._source.span(node), place, self._source.text
        left, old, right = text[start:first], text[first:last], text[last:end]
        whole = f"(({left.strip()}) {new} ({right.strip()}))" if wraps else f"{left}{new}{right}"
        left, right = squeezed(left)[-SHOWN:].lstrip(), squeezed(right)[:SHOWN].rstrip()
        self.edit(rule, start, end, whole, f"{left} {squeezed(old)} {right}", f"{left} {new} {right}")

    # ------------------------------------------------------------------ where to look

    def scope(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self._inside.append(node.name)
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    self.visit(default)
        for child in node.body:
            self.visit(child)
        self._inside.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scope(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # A port that a class declares is an annotation that calls.
        for part in (node.annotation if isinstance(node.annotation, ast.Call) else None, node.value):
            if part is not None:
                self.visit(part)

    def leave(self, node: ast.AST) -> None:
        """Nothing in here is gateware."""

    visit_Raise = visit_Assert = visit_JoinedStr = visit_Import = visit_ImportFrom = leave

    # ------------------------------------------------------------------ operators, constants

    def visit_BinOp(self, node: ast.BinOp) -> None:
        new = OPERATORS.get(type(node.op))
        strings = any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in (node.left, node.right))
        if new is not None and not strings:
            wraps = not isinstance(node.op, (ast.Add, ast.Sub, ast.LShift, ast.RShift, ast.FloorDiv, ast.Mod))
            self.swap("operator", node, self._source.between(node.left, node.right), new, wraps=wraps)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
            self.swap("compare", node, self._source.between(left, right), COMPARISONS[type(op)], wraps=False)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        new = "or" if isinstance(node.op, ast.And) else "and"
        if len(node.values) == 2:
            self.swap("logic", node, self._source.between(*node.values), new, wraps=True)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        operand, one = self._source.of(node.operand), (ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Call)
        self.replace("unary", node, operand if isinstance(node.operand, one) else f"({operand})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if node in self._claimed:
            return
        start, end = self._source.span(node)
        before, after = self.ahead(start), squeezed(self._source.text[end:end + SHOWN].partition("\n")[0])

        def edit(text: str) -> None:
            around = tuple(f"{before} {middle} {after}".strip() for middle in (f"[{self._source.of(node)}]", f"[{text}]"))
            self.edit("constant", start, end, text, *around)

        if isinstance(node.value, bool):
            edit(str(not node.value))
        elif isinstance(node.value, int):
            edit(str(node.value + 1))
            if node.value > 0:
                edit(str(node.value - 1))

    # ------------------------------------------------------------------ conditions

    def visit_If(self, node: ast.If) -> None:
        if all(isinstance(child, ast.Raise) for child in node.body) or "__name__" in self._source.of(node.test):
            for child in node.orelse:
                self.visit(child)
            return
        self.replace("condition", node.test, f"not ({self._source.of(node.test)})")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.replace("condition", node.test, f"(not ({self._source.of(node.test)}))")
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            call = item.context_expr
            if is_method(call, "If", "Elif") and len(call.args) == 1:
                text = self._source.of(call.args[0])
                head = self._source.of(call.func)
                for new in (f"({text}) == 0", "1", "0"):
                    self.replace("condition", call, f"{head}({new})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.replace("condition", test, f"not ({self._source.of(test)})")
        self.generic_visit(node)

    # ------------------------------------------------------------------ calls

    def visit_Call(self, node: ast.Call) -> None:
        name, text = name_of(node), self._source.of
        plain, shape = not any(isinstance(arg, ast.Starred) for arg in node.args), node.args[0] if node.args else None
        if name == "Mux" and len(node.args) == 3 and plain:
            self.exchange("mux", node, node.args[1], node.args[2])
        elif name == "Cat" and len(node.args) >= 2 and plain:
            self.exchange("order", node, node.args[0], node.args[1])
        elif name in ("Signal", "signed", "unsigned", "In", "Out") and len(node.args) <= 1 and plain:
            self.widths(node, name, shape)
        elif name in ("Const", "C") and len(node.args) == 2 and is_number(node.args[1]):
            self.bits(node.args[1])
        for keyword in node.keywords:
            if keyword.arg == "init" and not isinstance(keyword.value, (ast.List, ast.ListComp, ast.Dict)):
                value = keyword.value
                if not isinstance(value, ast.Constant):
                    self.replace("reset", value, "0")
                elif type(value.value) is int:
                    self.replace("reset", value, str(int(not value.value)))
                    self._claimed.add(value)
        if (name == "Signal" or (name == "Out" and shape is not None)) and plain and is_shape(shape):
            if not {"init", "reset_less"} & {keyword.arg for keyword in node.keywords}:
                inside = text(node)[:-1].rstrip().removesuffix(",")
                self.replace("reset", node, f"{inside}{'' if inside.endswith('(') else ', '}init=1)", placed=True)
        self.visit(node.func)
        for arg in node.args:
            self.visit(arg)
        for keyword in node.keywords:
            if keyword.arg != "name":
                self.visit(keyword.value)

    def exchange(self, rule: str, node: ast.AST, left: ast.AST, right: ast.AST) -> None:
        """Two arguments in each other's place."""
        (start, end), (a, b), (c, d), text = *map(self._source.span, (node, left, right)), self._source.text
        if text[a:b] == text[c:d]:
            return
        whole = text[start:a] + text[c:d] + text[b:c] + text[a:b] + text[d:end]
        self.edit(rule, start, end, whole, f"{shortened(text[a:b], SHOWN)}, {shortened(text[c:d], SHOWN)}",
                  f"{shortened(text[c:d], SHOWN)}, {shortened(text[a:b], SHOWN)}")

    def bits(self, node: ast.AST) -> None:
        """A number of bits, one more and one less."""
        if isinstance(node, ast.Constant):
            self._claimed.add(node)
            for new in (node.value + 1, node.value - 1) if node.value > 1 else (node.value + 1,):
                self.width(node, str(new))
        else:
            for change in ("+ 1", "- 1"):
                self.width(node, f"({self._source.of(node)}) {change}")

    def width(self, node: ast.AST, text: str) -> None:
        """The rule of widths shows what stands before the number, too: a signal's name is there more often than not."""
        start, end = self._source.span(node)
        before = self.ahead(start)
        self.edit("width", start, end, text, f"{before} {shortened(self._source.of(node))}", f"{before} {shortened(text)}")

    def widths(self, node: ast.Call, name: str, shape: ast.AST | None) -> None:
        if shape is None:
            if name == "Signal":
                inside = self._source.of(node).partition("(")[2]
                self.replace("width", node, f"Signal(2{', ' if inside != ')' else ''}{inside}", placed=True)
        elif is_number(shape):
            self.bits(shape)
        elif isinstance(shape, ast.Call) and name_of(shape) == "range" and len(shape.args) == 1 and name == "Signal":
            inner = self._source.of(shape.args[0])
            for new in (f"range(2 * ({inner}))", f"range((({inner}) + 1) // 2)"):
                self.width(shape, new)

    # ------------------------------------------------------------------ slices

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice) and node.slice.step is None:
            lower, upper = node.slice.lower, node.slice.upper
            low, high = (self._source.of(n) if n is not None else "" for n in (lower, upper))
            self._claimed.update(n for n in (lower, upper) if isinstance(n, ast.Constant))
            more = {"": "1"}.get(low, f"({low}) + 1" if not low.isdigit() else str(int(low or 0) + 1))
            less = {"": "-1"}.get(high, f"({high}) - 1" if not high.isdigit() else str(int(high or 0) - 1))
            above = "" if not high else f"({high}) + 1" if not high.isdigit() else str(int(high) + 1)
            if low or high:
                head = self._source.of(node.value)
                self.replace("slice", node, f"{head}[{low}:{less}]")
                self.replace("slice", node, f"{head}[{more}:{above}]")
        self.generic_visit(node)

    # ------------------------------------------------------------------ statements

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Attribute) and target.value.attr == "d":
            if target.attr in ("comb", "sync"):
                start = self._source.span(node)[0]
                end = self._source.span(target)[1]
                new = "sync" if target.attr == "comb" else "comb"
                shown = shortened(self._source.of(node.value))
                self.edit("domain", start, end, f"{self._source.of(target.value)}.{new}", f"{target.attr} += {shown}",
                          f"{new} += {shown}")
            if not isinstance(node.value, ast.List):
                self.replace("drop", node.value, "[]")
        elif type(node.op) in OPERATORS:
            start, end = self._source.between(target, node.value)
            target_text, value = squeezed(self._source.of(target)), shortened(self._source.of(node.value))
            new = OPERATORS[type(node.op)]
            self.edit("operator", start, end, f"{new}=", f"{target_text} {self._source.text[start:end]} {value}",
                      f"{target_text} {new}= {value}")
        self.visit(node.value)

    def visit_List(self, node: ast.List) -> None:
        for element in node.elts:
            if is_method(element, "eq"):
                self.replace("drop", element, "*[]")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._source.of(node.targets[0]) == "m.next":
            self.replace("drop", node, "pass")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if is_method(node.value, "connect"):
            self.replace("drop", node, "pass")
        self.visit(node.value)


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All mutants of a source, in the order of the text.  ``file`` is its path from the checkout.

    Two edits that give the same text are one mutant.  Raises SyntaxError for a text that is no Python.
    """
    finder = Finder(file, text)
    finder.visit(ast.parse(text))
    seen: dict[tuple[int, int, str], Mutant] = {}
    for mutant in finder.found:
        seen.setdefault((mutant.start, mutant.end, mutant.text), mutant)
    return sorted(seen.values(), key=lambda m: (m.start, m.end, m.text))


def statement(text: str, place: int) -> range:
    """Lines of the statement around a place of a source, without the statements in it: if none of the lines is run, the place is
    not.  A part of a statement may have a line that is never run, such as a number in a tuple of numbers."""
    line, best = text.count("\n", 0, place) + 1, range(0)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            last = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            # A body in the line of its statement.
            lines = range(first, max(last, first + 1))
            if line in lines and (not best or len(lines) <= len(best)):
                best = lines
    return best


def sources(root: Path) -> list[str]:
    """The gateware's files, as paths from the checkout: all but the one that writes Verilog and makes no part of it."""
    files = (path.relative_to(root).as_posix() for path in sorted((root / "hw").rglob("*.py")))
    return [file for file in files if file != "hw/verilog.py"]


def mutants_of_file(root: Path, file: str) -> list[Mutant]:
    return mutants_of(file, (root / file).read_text("utf-8"))
