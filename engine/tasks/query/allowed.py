"""What a parsed text may hold: node types of the parser's tree, and for each the arguments that may be set.

What is not listed is refused. The parser hangs many clauses on nodes that are allowed (locks, samples, hints, pivots), so a list of
node types alone would let them through. One loop checks the whole tree, and its depth too, before anything calls itself. Knows the
parser's tree and no other.
"""

from typing import Any

from sqlglot import exp

from engine.tasks.query.limits import MAX_DEPTH
from engine.tasks.query.outline import too_deep
from engine.tasks.query.refusals import Refused, nearest, quoted

_BINARY = frozenset({"this", "expression"})
_SET_OPERATION = frozenset({"this", "expression", "distinct", "order", "limit", "offset", "with_"})

BINARY_OPERATORS: dict[type, str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Pow: "^",
    exp.DPipe: "||",
}

ARGUMENTS: dict[type, frozenset[str]] = {
    **dict.fromkeys(BINARY_OPERATORS, _BINARY),
    exp.Div: _BINARY | {"typed", "safe"},
    exp.DPipe: _BINARY | {"safe"},
    exp.And: _BINARY,
    exp.Or: _BINARY,
    exp.Select: frozenset(
        {"expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_"}
    ),
    exp.Union: _SET_OPERATION,
    exp.Intersect: _SET_OPERATION,
    exp.Except: _SET_OPERATION,
    exp.Subquery: frozenset({"this", "alias", "order", "limit", "offset", "with_"}),
    exp.With: frozenset({"expressions"}),
    exp.CTE: frozenset({"this", "alias"}),
    exp.TableAlias: frozenset({"this"}),
    exp.From: frozenset({"this"}),
    exp.Table: frozenset({"this", "alias"}),
    exp.Join: frozenset({"this", "side", "on", "using"}),
    exp.Where: frozenset({"this"}),
    exp.Having: frozenset({"this"}),
    exp.Group: frozenset({"expressions"}),
    exp.Order: frozenset({"expressions"}),
    exp.Ordered: frozenset({"this", "desc"}),
    exp.Limit: frozenset({"expression", "expressions"}),
    exp.Offset: frozenset({"expression"}),
    exp.Distinct: frozenset({"expressions"}),
    exp.Alias: frozenset({"this", "alias"}),
    exp.Column: frozenset({"this", "table"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Null: frozenset(),
    exp.Boolean: frozenset({"this"}),
    exp.Star: frozenset(),
    exp.Placeholder: frozenset({"this"}),
    exp.Parameter: frozenset({"this"}),
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.Paren: frozenset({"this"}),
    exp.Neg: frozenset({"this"}),
    exp.Not: frozenset({"this"}),
    exp.Like: _BINARY | {"negate"},
    exp.ILike: _BINARY | {"negate"},
    exp.Between: frozenset({"this", "low", "high"}),
    exp.In: frozenset({"this", "expressions", "query", "field"}),
    exp.Is: _BINARY,
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.Var: frozenset({"this"}),
    exp.Interval: frozenset({"this", "unit"}),
    exp.Bracket: frozenset({"this", "expressions"}),
    exp.Slice: _BINARY,
    exp.Array: frozenset({"expressions"}),
}

# Nodes that make our own tree no deeper.
_FLAT = frozenset(
    {
        exp.Paren, exp.Subquery, exp.With, exp.CTE, exp.TableAlias, exp.From, exp.Join, exp.Where, exp.Having, exp.Group, exp.Order,
        exp.Ordered, exp.Limit, exp.Offset, exp.Distinct, exp.Alias, exp.Identifier, exp.If, exp.Var,
    }
)  # fmt: skip

_REASONS: dict[type, tuple[str, str | None]] = {
    exp.Dot: ("A name has at most two parts here.", "Write table.column; a key of JSON is column['key']."),
    exp.Escape: ("ESCAPE is not offered here.", "A backslash escapes in a pattern."),
    exp.NullSafeEQ: ("IS NOT DISTINCT FROM is not offered here.", "Use = and IS NULL."),
    exp.NullSafeNEQ: ("IS DISTINCT FROM is not offered here.", "Use != and IS NULL."),
    exp.Tuple: ("A row of values is not offered here.", None),
}

# fmt: off
FUNCTIONS = frozenset({
    "cosine_similarity", "cosine_distance", "dot", "dot_product", "inner_product", "l2_norm", "l2_distance", "euclidean_distance",
    "l1_norm", "l1_distance", "manhattan_distance", "linf_norm", "embed", "bm25_similarity", "rrf",
    "sum", "avg", "prod", "amin", "amax", "shape", "any", "all", "nonzero", "count", "min", "max",
    "contains", "equals", "lower", "upper", "length", "starts_with", "ends_with",
    "sqrt", "abs", "round", "floor", "ceil", "ln", "exp", "coalesce", "row_number", "keys",
})
TQL_FUNCTIONS = frozenset({
    "maxsim", "hamming_distance", "random", "data", "logical_and", "logical_or", "logical_not", "score", "predict", "mean", "std",
    "argmin", "argmax",
})
# fmt: on


def check_tree(root: Any) -> None:
    """Refused, with an offset in the lifted text, if anything in the tree is not listed, or if it is too deep."""
    rest = [(root, 1)]
    while rest:
        node, depth = rest.pop()
        if depth > MAX_DEPTH:
            raise too_deep(offset_of(node))
        _check_arguments(node)
        for child in node.iter_expressions():
            is_chain = type(child) is type(node) and type(child) in (exp.And, exp.Or)
            rest.append((child, depth + (type(child) not in _FLAT and not is_chain)))


def _check_arguments(node: Any) -> None:
    allowed = ARGUMENTS.get(type(node))
    if allowed is None:
        message, hint = _REASONS.get(type(node), ("This is not offered here.", None))
        raise Refused("unsupported", message, at=offset_of(node), hint=hint)
    for name, value in node.args.items():
        if value not in (None, False, []) and name not in allowed:
            found = value[0] if isinstance(value, list) else value
            at = offset_of(found) if isinstance(found, exp.Expr) else None
            message, hint = _REASONS[exp.Dot] if name == "db" else ("A clause is not offered here.", None)
            raise Refused("unsupported", message, at=offset_of(node) if at is None else at, hint=hint)


def offset_of(node: Any) -> int | None:
    """Offset of a node in the lifted text: its own, else the first of its descendants'; None if none of them has one."""
    first: int | None = None
    rest = [node]
    while rest:
        found = rest.pop()
        start = found.meta.get("start")
        if start is None:
            rest.extend(found.iter_expressions())
        elif first is None or start < first:
            first = start
    return first


def check_function(name: str, at: int | None) -> None:
    """Refused unless this is one of our functions, by its name in lower case."""
    if name in TQL_FUNCTIONS:
        hint = "It is known in TQL, not offered here."
        raise Refused("unknown_function", f'There is no function "{quoted(name)}".', at=at, hint=hint)
    if name not in FUNCTIONS:
        raise Refused("unknown_function", f'Unknown function "{quoted(name)}".', at=at, hint=nearest(name, sorted(FUNCTIONS)))
