"""Keys of ORDER BY that grow or fall with one score: ordering by the score itself gives the same rows, and needs no arithmetic."""

from engine.tasks.query.bound import Apply, Bound, SortKey, Value, VectorScore, WordScore


def by_its_score(key: SortKey) -> SortKey:
    """A key that grows or falls with one score alone, as that score: `1 - s` ascending is `s` descending."""
    expression, is_descending = key.expression, key.is_descending
    while isinstance(expression, Apply):
        stripped = _stripped(expression)
        if stripped is None:
            return key
        expression, flips = stripped
        is_descending ^= flips
    is_score = isinstance(expression, VectorScore | WordScore)
    return SortKey(expression, is_descending) if is_score else key


def _stripped(expression: Apply) -> tuple[Bound, bool] | None:
    """What an operation with a constant works on, and whether it turns the order round; None if it is no such operation."""
    function, arguments = expression.function, expression.arguments
    if function == "convert" and expression.type.is_float and arguments[0].type.is_float:
        return arguments[0], False
    if function in ("negative", "cosine_distance"):
        return arguments[0], True
    if function not in ("+", "-", "*", "/") or not expression.type.is_float:
        return None
    left, right = arguments
    if isinstance(left, Value) and function != "/":
        factor = left.value
        return _scaled(right, factor) if function == "*" else (right, function == "-") if factor is not None else None
    if not isinstance(right, Value) or right.value is None:
        return None
    return _scaled(left, right.value) if function in "*/" else (left, False)


def _scaled(expression: Bound, factor: float | None) -> tuple[Bound, bool] | None:
    """A factor of 0 makes all rows equal."""
    return (expression, factor < 0) if factor else None
