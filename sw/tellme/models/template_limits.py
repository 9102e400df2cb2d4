# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A limit of the work and memory that a chat template takes.

A chat template is a program of whoever made the model.  Jinja's sandbox keeps it from files and from Python's own objects, and
would let it loop and allocate for as long as it likes.  Here all that a template does costs **units** of a budget: a character
of a text that is made, read or put out costs one, an element of a list ELEMENT, a turn of a loop, a call and a filter STEP.
What could become large at once (``'x' * 10**9``) is paid for before it is made.  The same template and messages always cost the
same, on every machine.

The template's syntax tree is changed so that loops, comparisons, literals and output pay; operators, calls, filters and tests
pay in the environment.  Filters that no chat template needs and whose cost is hard to tell do not exist.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextvars import ContextVar
from typing import Any, cast

from jinja2 import nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace, pass_context, pass_environment, pass_eval_context
from jinja2.visitor import NodeTransformer

__all__ = ["BUDGET", "ELEMENT", "LONGEST", "STEP", "TIMES_INPUT", "LimitedEnvironment", "TemplateLimitError", "limited"]

#: Units of one rendering: so many, and TIMES_INPUT for each character of the messages.
BUDGET, TIMES_INPUT = 1 << 24, 64
#: Units of a step and of an element of a list, a tuple or a mapping.
STEP, ELEMENT = 32, 64
#: Characters of the longest text that a template may make, beside twice those of the messages.
LONGEST = 1 << 19
#: Nesting of lists and mappings.
DEPTH = 64
_DIGITS = re.compile(r"\d+")
#: Methods of texts that no chat template needs and that make a text much longer.
_NO_METHODS = frozenset({"encode", "expandtabs", "maketrans", "translate"})
#: Filters that exist.
_FILTERS = frozenset({
    "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "format", "groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "sum", "title",
    "tojson", "trim", "truncate", "unique", "upper"})
_HIDDEN = "tellme_"


class TemplateLimitError(Exception):
    """A template that takes more than it may."""


class _Budget:
    def __init__(self, characters: int):
        self.left = BUDGET + TIMES_INPUT * characters
        self.longest = LONGEST + 2 * characters

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise TemplateLimitError("it takes more work or memory than a template may")

    def text(self, characters: int) -> None:
        """Pay for a text that is going to be made."""
        if characters > self.longest:
            raise TemplateLimitError(f"it makes a text of {characters} characters, and {self.longest} are the most")
        self.spend(characters)

    def pay(self, value: object, depth: int = 0) -> int:
        """Pay for a value with all that is in it; the units."""
        parts: tuple[object, ...] = ()
        if isinstance(value, (str, bytes)):
            units = len(value)
        elif isinstance(value, bool) or value is None or isinstance(value, (float, Undefined)):
            units = STEP
        elif isinstance(value, int):
            units = STEP + value.bit_length() // 3
        elif isinstance(value, Mapping):
            units, parts = STEP + ELEMENT * len(value), (*value.keys(), *value.values())
        elif isinstance(value, (list, tuple, Set)):
            units, parts = STEP + ELEMENT * len(value), tuple(value)
        elif isinstance(value, Namespace):
            units, parts = STEP, (object.__getattribute__(value, "_Namespace__attrs"),)
        else:
            units = STEP
        self.spend(units)
        if parts and depth > DEPTH:
            raise TemplateLimitError(f"its values are nested deeper than {DEPTH}")
        return units + sum(self.pay(part, depth + 1) for part in parts)


_BUDGET: ContextVar[_Budget] = ContextVar("tellme template budget")


def limited(render: Callable[[], str], characters: int) -> str:
    """What ``render`` gives, with a budget for messages of so many characters; a TemplateLimitError beyond it."""
    token = _BUDGET.set(_Budget(characters))
    try:
        return render()
    finally:
        _BUDGET.reset(token)


def _sized(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, Mapping, Set, range)) else 0


def _arguments(budget: _Budget, args: Iterable[object]) -> None:
    """Pay for arguments: a number may be a width."""
    for arg in args:
        if isinstance(arg, int) and not isinstance(arg, bool):
            budget.text(abs(arg))
        else:
            budget.spend(_sized(arg))


def _made(value: Any) -> Any:
    """A value that an operation made, paid for."""
    budget = _BUDGET.get()
    if isinstance(value, (str, bytes)):
        budget.text(len(value))
    else:
        budget.pay(value)
    return value


def _seen(value: Any) -> Any:
    """A value that is looked at as a whole."""
    _BUDGET.get().pay(value)
    return value


def _each(value: Any) -> Any:
    """What a loop goes through; each turn is paid for."""
    if isinstance(value, Undefined):
        return value

    def turns(items: Iterator[Any]) -> Iterator[Any]:
        budget = _BUDGET.get()
        for item in items:
            budget.spend(STEP)
            yield item

    return turns(iter(value))


def _joined(parts: Iterable[Any], between: str = "") -> str:
    """The texts of parts one after another."""
    budget = _BUDGET.get()
    texts = []
    for part in _each(parts):
        budget.pay(part)
        texts.append(str(part))
        budget.text(len(texts[-1]) + len(between))
    budget.text(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _replaced(text: str, old: str, new: str) -> None:
    """Pay for a replacement."""
    _BUDGET.get().text(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _formatted(form: str, args: object) -> None:
    """Pay for ``form % args``, and for widths and precisions in it."""
    budget = _BUDGET.get()
    if re.search(r"%[^A-Za-z%]*\*", form):
        raise TemplateLimitError("it has a format whose width is an argument")
    budget.text(len(form) + sum(int(number[:9]) for number in _DIGITS.findall(form)) + budget.pay(args))


class _Formatter(SandboxedFormatter):
    """str.format whose widths are paid for."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        budget = _BUDGET.get()
        budget.text(budget.pay(value) + sum(int(number[:9]) for number in _DIGITS.findall(format_spec)))
        return _made(super().format_field(value, format_spec))


def _power(budget: _Budget, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        budget.text(left.bit_length() * right)


def _times(budget: _Budget, left: Any, right: Any) -> None:
    for many, number in ((left, right), (right, left)):
        if isinstance(number, int) and isinstance(many, (str, bytes)):
            budget.text(len(many) * max(number, 0))
        elif isinstance(number, int) and isinstance(many, (list, tuple)):
            budget.spend(ELEMENT * len(many) * max(number, 0))


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which what a template does is paid for.  Templates of it are rendered within :func:`limited`."""

    #: Operators that are paid for.
    intercepted_binops = frozenset({"//", "%", "+", "*", "-", "/", "**"})

    def __init__(self, **settings: Any):
        super().__init__(**settings, optimized=False, finalize=_seen)
        known = cast(dict[str, Callable[..., Any]], FILTERS)
        self.filters: dict[str, Callable[..., Any]] = {name: self._paid(name, known[name]) for name in sorted(_FILTERS)}
        self.tests = {name: self._paid(name, test) for name, test in cast(dict[str, Callable[..., Any]], self.tests).items()}
        self.filters |= {_HIDDEN + "each": _each, _HIDDEN + "made": _made, _HIDDEN + "seen": _seen, _HIDDEN + "joined": _joined}
        self.filters["join"], self.filters["sum"] = _join, _sum
        del self.globals["lipsum"]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter of one's own."""
        self.filters[name] = self._paid(name, function)

    def template(self, source: str) -> Any:
        """The template of a text; all errors of Jinja and of Python's compiler go through."""
        tree = _Payments().visit(self.parse(source))
        return self.template_class.from_code(self, self.compile(tree), self.make_globals(None))

    def _paid(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or test whose input, arguments and result are paid for."""
        # Jinja passes its context ahead of the value where the function asks for it.
        kind = getattr(function, "jinja_pass_arg", None)
        first = 1 if kind is not None else 0

        def paid(*args: Any, **named: Any) -> Any:
            budget = _BUDGET.get()
            budget.spend(STEP)
            value, *more = args[first:]
            budget.spend(_sized(value))
            _arguments(budget, (*more, *named.values()))
            if name == "replace" and len(more) >= 2:
                _replaced(str(value), str(more[0]), str(more[1]))
            elif name == "format":
                _formatted(str(value), [*more, *named.values()])
            elif name == "indent":
                width = more[0] if more else named.get("width", 4)
                budget.text(len(str(value)) + str(value).count("\n") * (width if isinstance(width, int) else _sized(width)))
            elif name in ("string", "tojson", "e", "escape"):
                budget.text(6 * budget.pay(value))
            return _made(function(*args, **named))

        return {"context": pass_context, "eval_context": pass_eval_context, "environment": pass_environment}[kind.name](paid) \
            if kind is not None else paid

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _BUDGET.get()
        budget.spend(STEP)
        if operator == "%" and isinstance(left, (str, bytes)):
            _formatted(left if isinstance(left, str) else left.decode("latin-1"), right)
        elif operator == "**":
            _power(budget, left, right)
        elif operator == "*":
            _times(budget, left, right)
        elif operator == "+" and isinstance(left, (str, bytes)):
            budget.text(len(left) + _sized(right))
        elif operator == "+":
            budget.spend(ELEMENT * (_sized(left) + _sized(right)))
        return _made(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        form, as_map = value.__self__, value.__name__ == "format_map"

        def formatted(*args: Any, **named: Any) -> str:
            if as_map:
                return str(_made(_Formatter(self).vformat(str(form), (), args[0])))
            return str(_made(_Formatter(self).vformat(str(form), args, named)))

        return formatted

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """What the sandbox allows, but for the methods of strings that nothing pays for."""
        return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, (str, bytes)) and attr in _NO_METHODS)

    def call(__self, __context: Context, __obj: Any, *args: Any, **named: Any) -> Any:  # noqa: N805, B902
        budget = _BUDGET.get()
        budget.spend(STEP)
        _arguments(budget, (*args, *named.values()))
        of = getattr(__obj, "__self__", None)
        budget.spend(_sized(of))
        if isinstance(of, str):
            what = __obj.__name__
            if what == "replace" and len(args) >= 2:
                _replaced(of, str(args[0]), str(args[1]))
            elif what == "join" and len(args) == 1:
                return _joined(args[0], of)
        return _made(super().call(__context, __obj, *args, **named))


@pass_eval_context
def _join(eval_ctx: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's filter ``join``."""
    if attribute is not None:
        value = FILTERS["map"](_Bare(eval_ctx.environment), value, attribute=attribute)
    return _joined(() if isinstance(value, Undefined) else value, str(d))


@pass_environment
def _sum(environment: LimitedEnvironment, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's filter ``sum``, an addition at a time."""
    if attribute is not None:
        iterable = FILTERS["map"](_Bare(environment), iterable, attribute=attribute)
    for item in _each(iterable):
        if isinstance(item, (str, bytes)) or isinstance(start, (str, bytes)):
            raise TypeError("sum adds numbers and lists; join is for texts")
        start = environment.call_binop(None, "+", start, item)  # type: ignore[arg-type]
    return start


class _Bare:
    """As much of a context as Jinja's filter ``map`` takes."""

    def __init__(self, environment: LimitedEnvironment):
        self.environment = environment


class _Payments(NodeTransformer):
    """Puts payments into a template's syntax tree."""

    @staticmethod
    def _through(name: str, node: nodes.Expr) -> nodes.Filter:
        return nodes.Filter(node, _HIDDEN + name, [], [], None, None, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._through("each", node.iter)  # type: ignore[arg-type]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._through("seen", node.expr)
        for operand in node.ops:
            operand.expr = self._through("seen", operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._through("joined", nodes.List(node.nodes, lineno=node.lineno))

    def _literal(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._through("made", node)

    visit_List = visit_Tuple = visit_Dict = _literal

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return self._through("made", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        # Text of the template itself, which a loop may repeat.
        node.nodes = [self._through("made", nodes.Const(part.data, lineno=part.lineno))
                      if isinstance(part, nodes.TemplateData) and part.data else part for part in node.nodes]
        return node

