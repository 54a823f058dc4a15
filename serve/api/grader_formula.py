"""The formula of a `multi` grader: numbers, names, + - * / ** and a few functions; nothing else is ever evaluated."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from judging.errors import InputError
from serve.api.errors import BadRequest

FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    **{name: getattr(math, name) for name in ("floor", "ceil", "exp", "sqrt", "log")},
}
OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class FormulaError(InputError):
    """The formula holds something that is never evaluated."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="invalid_value", key="calculate_output")


def calculate(formula: str, values: Mapping[str, float], *, check_only: bool = False) -> float:
    """The value of a formula of numbers, names, + - * / ** and a few functions; nothing else is ever evaluated.

    Args:
        formula: the text of `calculate_output`.
        values: the graders' scores by name.
        check_only: return NaN where the formula has no finite value for these scores.

    Raises:
        FormulaError: the formula holds something else.
        BadRequest: it has no finite value for these scores.
    """
    try:
        tree = ast.parse(formula, mode="eval")
        found = float(_value(tree.body, values))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise FormulaError("`calculate_output` is not a valid formula.") from error
    except FormulaError:
        raise
    except (ArithmeticError, ValueError):
        found = math.nan
    except TypeError as error:
        raise FormulaError("A function in `calculate_output` has the wrong number of arguments.") from error
    if not math.isfinite(found) and not check_only:
        message = "The formula in `calculate_output` has no finite value for these scores."
        raise BadRequest(message, code="invalid_value", key="grader")
    return found


def _value(node: ast.AST, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand, values))
    function = FUNCTIONS.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
    if function and isinstance(node, ast.Call) and not node.keywords:
        return function(*(_value(one, values) for one in node.args))
    raise FormulaError(
        "`calculate_output` may hold only numbers, the graders' names, + - * / ** and the functions "
        f"{', '.join(FUNCTIONS)}."
    )
