"""Mutations of one module, one at a time: comparisons, arithmetic, constants, conditions, and calls left out.

Each mutant replaces one node of the syntax tree. The module's tests run with that one file changed, in a
process of their own; a mutant nobody notices is a survivor.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

SWAPS: Final[dict[type, type]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """line, column: where, in the code as it is written; what: in words."""

    line: int
    column: int
    what: str
    _tree: ast.Module = field(repr=False)
    _index: int
    _change: Callable[[ast.AST], None] = field(repr=False)

    @property
    def source(self) -> str:
        """The whole mutated module."""
        mutated = copy.deepcopy(self._tree)
        self._change(next(node for i, node in enumerate(ast.walk(mutated)) if i == self._index))
        ast.fix_missing_locations(mutated)
        return ast.unparse(mutated)


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines. Texts, annotations and decorators are left
    alone: what a decorator says about a class is no decision of the module."""
    tree = ast.parse(source)
    decorators = [d for node in ast.walk(tree) for d in getattr(node, "decorator_list", ())]
    spared = {id(part) for decorator in decorators for part in ast.walk(decorator)}
    for index, node in enumerate(ast.walk(tree)):
        if id(node) in spared:
            continue
        for what, change in _changes(node):
            where = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
            yield Mutant(*where, what, tree, index, change)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield _swap(node.ops[0], "ops")
    elif (
        (isinstance(node, ast.BinOp) and type(node.op) in SWAPS)
        or isinstance(node, ast.BoolOp)
        or (isinstance(node, ast.AugAssign) and type(node.op) in SWAPS)
    ):
        yield _swap(node.op, "op")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "without its sign", lambda n: _replace(n, n.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{not node.value} for {node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield f"{node.value + 1} for {node.value}", lambda n: setattr(n, "value", n.value + 1)
    elif isinstance(node, ast.If):
        yield "never", lambda n: setattr(n, "test", ast.Constant(False))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        yield "left out", lambda n: setattr(n, "value", ast.Constant(None))


def _swap(op: ast.AST, field: str) -> tuple[str, Callable[[ast.AST], None]]:
    other = SWAPS[type(op)]

    def change(node: ast.AST) -> None:
        setattr(node, field, [other()] if field == "ops" else other())

    return f"{other.__name__} for {type(op).__name__}", change


def _replace(node: ast.AST, other: ast.AST) -> None:
    """Turn a node into another one in place: `+x` stands for x."""
    node.op = ast.UAdd()  # type: ignore[attr-defined]
