# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A plugin of mypy that knows what Amaranth makes at run time, and what amaranth-stubs 0.5.0.8 lacks.

``wiring.Component`` makes a component's ports when it runs, from the members that its class gives to ``super().__init__``; no
stub can say which.  The plugin reads them from the source: a port of some bits is a Signal, any other (a record, a stream, an
interface) is Any.  A name that is no port is still an error.  A class whose members are not written as a dictionary with
strings for names has ports of any name.

``Signal(layout)`` is a view of that layout.  The stubs say so by a metaclass, which mypy does not look at.

``LACKING`` has the members of Amaranth's own components that the stubs do not tell.
"""

from collections.abc import Callable, Iterator

from mypy.nodes import (
    MDEF,
    ArgKind,
    Argument,
    Block,
    CallExpr,
    ClassDef,
    DictExpr,
    Expression,
    ExpressionStmt,
    FuncDef,
    IfStmt,
    IntExpr,
    MemberExpr,
    NameExpr,
    OpExpr,
    Statement,
    StrExpr,
    SuperExpr,
    SymbolTableNode,
    Var,
)
from mypy.plugin import ClassDefContext, FunctionContext, FunctionSigContext, MethodSigContext, Plugin
from mypy.plugins.common import add_method_to_class
from mypy.types import AnyType, CallableType, FunctionLike, Instance, Type, TypeOfAny, get_proper_type

__all__ = ["AmaranthPlugin", "plugin"]

COMPONENT = "amaranth.lib.wiring.Component"
SIGNAL = "amaranth.hdl._ast.Signal"
MEMORY = "amaranth.lib.memory.Memory"
FLOW_CALL = "amaranth.lib.wiring.Flow.__call__"
#: Class -> its members.
LACKING = {"amaranth.lib.fifo.SyncFIFO": ("level", "r_level", "w_level"),
           "amaranth.lib.fifo.SyncFIFOBuffered": ("level", "r_level", "w_level"),
           "amaranth.lib.io.Buffer": ("i", "o", "oe"), "amaranth.lib.io.FFBuffer": ("i", "o", "oe"),
           "amaranth.lib.io.DDRBuffer": ("i", "o", "oe")}
#: What a shape of plain bits is.
PLAIN = ("builtins.int", "builtins.range", "amaranth.hdl._ast.Shape")
#: Calls whose value is a shape of some bits.
SHAPES = ("range", "signed", "unsigned", "len")


def statements(block: Block) -> Iterator[Statement]:
    """All statements of a function but those of loops and functions in it."""
    for statement in block.body:
        yield statement
        if isinstance(statement, IfStmt):
            for inner in [*statement.body, *([statement.else_body] if statement.else_body is not None else [])]:
                yield from statements(inner)


def given_members(definition: ClassDef) -> Iterator[Expression]:
    """What the class's ``__init__`` gives to ``super().__init__``."""
    for function in definition.defs.body:
        if isinstance(function, FuncDef) and function.name == "__init__":
            for statement in statements(function.body):
                if (isinstance(statement, ExpressionStmt) and isinstance(call := statement.expr, CallExpr)
                        and isinstance(call.callee, SuperExpr) and call.callee.name == "__init__"):
                    yield from call.args[:1]


def is_of_bits(member: Expression) -> bool:
    """Whether a member is ``In(bits)`` or ``Out(bits)``."""
    if not (isinstance(member, CallExpr) and isinstance(member.callee, NameExpr) and member.callee.name in ("In", "Out")):
        return False
    shape = member.args[0]
    return isinstance(shape, (IntExpr, OpExpr)) or (
        isinstance(shape, CallExpr) and isinstance(shape.callee, NameExpr) and shape.callee.name in SHAPES) or (
        isinstance(shape, (NameExpr, MemberExpr)) and shape.name.endswith(("_BITS", "_bits", "width")))


class AmaranthPlugin(Plugin):
    """See the module."""

    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return self.add_lacking if fullname in LACKING else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return {SIGNAL: self.signal_type, MEMORY: self.memory_type}.get(fullname)

    def get_function_signature_hook(self, fullname: str) -> Callable[[FunctionSigContext], FunctionLike] | None:
        return self.memory_call if fullname == MEMORY else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], FunctionLike] | None:
        return self.flow_call if fullname == FLOW_CALL else None

    def get_base_class_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return self.add_ports if fullname == COMPONENT else None

    def add_ports(self, context: ClassDefContext) -> None:
        """Give the class an attribute for each port."""
        anything = AnyType(TypeOfAny.explicit)
        signal = context.api.named_type_or_none(SIGNAL)
        for members in given_members(context.cls):
            named = isinstance(members, DictExpr)
            for key, member in members.items if isinstance(members, DictExpr) else []:
                if isinstance(key, StrExpr):
                    self.add(context, key.value, signal if signal is not None and is_of_bits(member) else anything)
                else:
                    named = False
            if not named:
                name = context.api.named_type("builtins.str")
                add_method_to_class(context.api, context.cls, "__getattr__",
                                    [Argument(Var("name", name), name, None, ArgKind.ARG_POS)], anything)

    def add_lacking(self, context: ClassDefContext) -> None:
        """Give a class of Amaranth the members that the stubs do not tell."""
        for name in LACKING[context.cls.fullname]:
            self.add(context, name, AnyType(TypeOfAny.explicit))

    @staticmethod
    def signal_type(context: FunctionContext) -> Type:
        """Signal where the shape is one of plain bits, or there is none; else what the layout makes of it."""
        if not context.arg_types or not context.arg_types[0]:
            return context.default_return_type
        shape = get_proper_type(context.arg_types[0][0])
        plain = isinstance(shape, Instance) and (shape.last_known_value is not None or shape.type.fullname in PLAIN)
        return context.default_return_type if plain else AnyType(TypeOfAny.explicit)

    @staticmethod
    def memory_type(context: FunctionContext) -> Type:
        """A memory of any shape: what the stubs infer of a width or a layout is nothing."""
        memory = get_proper_type(context.default_return_type)
        anything = AnyType(TypeOfAny.explicit)
        return memory.copy_modified(args=[anything] * len(memory.args)) if isinstance(memory, Instance) else memory

    @staticmethod
    def memory_call(context: FunctionSigContext) -> CallableType:
        """``attrs`` may be numbers and truth values too; the stubs know texts alone."""
        signature = context.default_signature
        return signature.copy_modified(arg_types=[AnyType(TypeOfAny.explicit) if name == "attrs" else given for name, given in
                                                  zip(signature.arg_names, signature.arg_types, strict=True)])

    @staticmethod
    def flow_call(context: MethodSigContext) -> CallableType:
        """``In(shape, init=...)``: the stubs know ``init`` by its old name, ``reset``."""
        signature = context.default_signature
        return signature.copy_modified(arg_names=["init" if name == "reset" else name for name in signature.arg_names])

    @staticmethod
    def add(context: ClassDefContext, name: str, type_: Type) -> None:
        info = context.cls.info
        if name not in info.names:
            variable = Var(name, type_)
            variable.info, variable.is_property = info, False
            variable._fullname = f"{info.fullname}.{name}"
            info.names[name] = SymbolTableNode(MDEF, variable, plugin_generated=True)


def plugin(version: str) -> type[Plugin]:
    """What mypy calls."""
    return AmaranthPlugin
