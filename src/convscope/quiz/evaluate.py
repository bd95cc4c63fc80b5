"""Evaluates what a learner typed: arithmetic, tuples, lists and comprehensions over range, and nothing else of Python.

It receives text and returns numbers, strings, tuples and lists. The text is parsed to a syntax tree and walked here; Python's own eval and exec
are never called, no name but the loop's own and six functions exists, and there are no attributes. Length, depth, steps and sizes are bounded,
so that whatever is typed is answered in milliseconds.
"""

from __future__ import annotations

import ast
import math
import operator
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from convscope.errors import UsageError

LONGEST = 1_000  # characters; a nested comprehension has 50
DEEPEST = 40  # levels of the syntax tree
MOST_STEPS = 50_000  # parts evaluated; a 100 by 100 nested list takes 40,000
MOST_VALUES = 10_000  # entries of all lists made
LARGEST_NUMBER = 1e15  # below it, float arithmetic on whole numbers is exact and every operation is quick
LARGEST_EXPONENT = 64
LONGEST_STRING = 200  # characters

Operation = Callable[[Any, Any], Any]
OPERATIONS: dict[type[ast.operator], Operation] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "len": len, "max": max, "min": min, "range": range, "sum": sum}
ALLOWED = "numbers, + - * / // % **, comparisons, tuples, lists, comprehensions, and the functions abs, len, max, min, range and sum"


class NotUnderstood(UsageError):
    """What was typed cannot be evaluated here; the message says why."""


def parse(text: str) -> ast.expr:
    """The syntax tree of one expression.

    Raises:
        NotUnderstood: it is too long or too deep, or no Python expression.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise NotUnderstood(f"That is {len(text):,} characters long; at most {LONGEST:,} are read.")
    try:
        with warnings.catch_warnings():  # Python warns of typing slips such as (1)(2); the evaluator refuses them by itself
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise NotUnderstood(f"That is not a Python expression: {error.msg}.") from None
    except (ValueError, MemoryError, RecursionError):  # a zero byte; brackets nested deeper than the parser goes
        raise NotUnderstood("That cannot be read as a Python expression.") from None
    _check_depth(tree)
    return tree


def evaluate(text: str | ast.expr) -> Any:
    """The value of an expression.

    Args:
        text: the expression as typed, or its syntax tree.

    Returns:
        A number, a string, or a tuple or list of such.

    Raises:
        NotUnderstood: it is not of the subset, grows beyond the limits, or has no value.

    Example:
        >>> evaluate("[[i * j for j in range(3)] for i in range(2)]")
        [[0, 0, 0], [0, 1, 2]]
    """
    tree = parse(text) if isinstance(text, str) else text
    try:
        return _Evaluator().value(tree, {})
    except NotUnderstood:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        raise NotUnderstood(f"That has no value: {error}.") from None


def _check_depth(tree: ast.expr) -> None:
    """Refuse a deep tree before anything recurses over it."""
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEEPEST:
            raise NotUnderstood(f"That is nested more than {DEEPEST} levels deep.")
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


class _Evaluator:
    """Walks one syntax tree and counts what it does."""

    def __init__(self) -> None:
        self.steps = self.values = 0

    def value(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise NotUnderstood(f"That takes more than {MOST_STEPS:,} steps to compute; smaller numbers will do.")
        match node:
            case ast.Constant(value=constant):
                return self._constant(constant)
            case ast.Name(id=name):
                return self._name(name, names)
            case ast.Tuple(elts=parts):
                return tuple(self._kept([self.value(part, names) for part in parts]))
            case ast.List(elts=parts):
                return self._kept([self.value(part, names) for part in parts])
            case ast.ListComp(elt=each, generators=loops):
                return [self._counted(self.value(each, inner)) for inner in self._loops(loops, names)]
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in SIGNS:
                return SIGNS[type(sign)](self.value(operand, names))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATIONS:
                return self._arithmetic(sign, self.value(left, names), self.value(right, names))
            case ast.Compare():
                return self._compare(node, names)
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self.value(part, names) for part in parts)
            case ast.BoolOp(values=parts):
                return any(self.value(part, names) for part in parts)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.value(body if self.value(test, names) else other, names)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS and name not in names:
                return self._call(name, [self.value(argument, names) for argument in arguments])
        raise NotUnderstood(f"{ast.unparse(node)[:60]!r} is not evaluated here. What is: {ALLOWED}.")

    def _constant(self, value: object) -> object:
        if isinstance(value, str) and len(value) <= LONGEST_STRING:
            return value
        if isinstance(value, bool | int | float):
            return _bounded(value)
        raise NotUnderstood(f"{str(value)[:60]!r} is not evaluated here. What is: {ALLOWED}.")

    def _name(self, name: str, names: Mapping[str, Any]) -> Any:
        if name not in names:
            raise NotUnderstood(f"There is no {name!r} here. Names are those of the comprehension's own loops. Allowed are {ALLOWED}.")
        return names[name]

    def _arithmetic(self, sign: ast.operator, left: object, right: object) -> object:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise NotUnderstood("Arithmetic is done with numbers only.")
        if isinstance(sign, ast.Pow) and abs(right) > LARGEST_EXPONENT:
            raise NotUnderstood(f"The exponent {right} is too large; at most {LARGEST_EXPONENT}.")
        result = OPERATIONS[type(sign)](left, right)
        if not isinstance(result, int | float):
            raise NotUnderstood("That is a complex number.")
        return _bounded(result)

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> bool:
        left = self.value(node.left, names)
        for sign, part in zip(node.ops, node.comparators, strict=True):
            if type(sign) not in COMPARISONS:
                raise NotUnderstood(f"{ast.unparse(node)[:60]!r} is not evaluated here. What is: {ALLOWED}.")
            right = self.value(part, names)
            _plain(left, right)
            if not COMPARISONS[type(sign)](left, right):
                return False
            left = right
        return True

    def _call(self, name: str, arguments: list[Any]) -> Any:
        if name in ("max", "min", "sum"):  # over one list, or over numbers
            _plain(*(arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list | tuple) else arguments))
        result = FUNCTIONS[name](*arguments)
        if isinstance(result, range):
            if len(result) > MOST_VALUES:
                raise NotUnderstood(f"range{tuple(arguments)} has {len(result):,} numbers; at most {MOST_VALUES:,}.")
            return self._kept(list(result))
        return _bounded(result) if isinstance(result, int | float) else result

    def _loops(self, loops: list[ast.comprehension], names: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The names that each turn of the loops binds."""
        if not loops:
            yield names
            return
        loop, *rest = loops
        if loop.is_async:
            raise NotUnderstood("async is not evaluated here.")
        items = self.value(loop.iter, names)
        if not isinstance(items, list | tuple | str):
            raise NotUnderstood(f"One cannot loop over {reprlib.repr(items)}.")
        for item in items:
            inner = {**names, **_bound(loop.target, item)}
            if all(self.value(test, inner) for test in loop.ifs):
                yield from self._loops(rest, inner)

    def _kept(self, values: list[Any]) -> list[Any]:
        self.values += len(values)
        if self.values > MOST_VALUES:
            raise NotUnderstood(f"That makes more than {MOST_VALUES:,} values; smaller numbers will do.")
        return values

    def _counted(self, value: Any) -> Any:
        self._kept([value])
        return value


def _plain(*values: object) -> None:
    """Refuse to compare or add lists: nested ones that hold each other many times would take for ever."""
    if not all(isinstance(value, int | float | str) for value in values):
        raise NotUnderstood("Only numbers and strings are compared, and only numbers added up.")


def _bounded(value: float) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise NotUnderstood("That is no finite number.")
    if abs(value) > LARGEST_NUMBER:
        raise NotUnderstood(f"A number there is larger than {LARGEST_NUMBER:g}; smaller ones will do.")
    return value


def _bound(target: ast.expr, item: object) -> dict[str, object]:
    """The names that a loop's target binds."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if isinstance(target, ast.Tuple | ast.List) and isinstance(item, list | tuple) and len(target.elts) == len(item):
        return {name: value for part, one in zip(target.elts, item, strict=True) for name, value in _bound(part, one).items()}
    raise NotUnderstood(f"{reprlib.repr(item)} cannot be given to {ast.unparse(target)}.")
