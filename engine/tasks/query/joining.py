"""FROM: datasets, subselects and joins become one relation and the columns that are visible in it.

Knows no other clause.
"""

from dataclasses import dataclass, field, replace

from engine.tasks.query import tree
from engine.tasks.query.bound import Apply, Bound, Extended, InRows, Joined, Node, Value
from engine.tasks.query.context import Context, Found, Given
from engine.tasks.query.conversions import comparable
from engine.tasks.query.datatypes import INT
from engine.tasks.query.refusals import Refused, quoted
from engine.tasks.query.scopes import Scope, Visible
from engine.tasks.query.walking import leaves

MAX_SCANS = 16


@dataclass(frozen=True, slots=True)
class From:
    """The relation of a FROM, its visible sources in order, and the columns of USING."""

    node: Node
    sources: tuple[Visible, ...]
    shared: dict[str, Bound] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(self.sources, shared=self.shared)


def bind_from(given: Given, select: tree.Select, outer: Scope | None) -> From:
    bound = _bind_source(given, select.source, outer)
    for join in select.joins:
        bound = _bind_join(given, bound, join, outer)
    return bound


def _bind_source(given: Given, source: tree.Table | tree.Subquery, outer: Scope | None) -> From:
    if isinstance(source, tree.Table):
        return _bind_table(given, source)
    rows = given.bind_query(given, source.query, outer)
    tables = () if source.alias is None else (source.alias,)
    return From(rows.node, (Visible(tables, dict(rows.columns)),))


def _bind_table(given: Given, table: tree.Table) -> From:
    if table.name not in given.sources:
        raise Refused("dataset_not_found", f'There is no dataset "{quoted(table.name or "")}".', at=table.at)
    scan = given.fields.scan(given.sources[table.name])
    if len(given.fields.scans) > MAX_SCANS:
        raise Refused("too_complex", f"A query reads at most {MAX_SCANS} datasets.", at=table.at)
    columns: dict[str, Bound] = {column.name: scan.field(column) for column in scan.source.columns}
    return From(scan, (Visible(_names(table), columns),))


def _names(table: tree.Table) -> tuple[str, ...]:
    """What can stand before a dot: the alias, or else the name as written and its last part."""
    if table.alias is not None:
        return (table.alias,)
    if table.name is None:
        return ()
    last = table.name.rpartition("/")[2].partition("@")[0]
    return tuple(dict.fromkeys((table.name, last)))


def _bind_join(given: Given, left: From, join: tree.Join, outer: Scope | None) -> From:
    right = _bind_source(given, join.right, outer)
    if join.kind == "left":
        right = _with_fields(given, right)
    shared = {name: _column(left.scope, name, join.at) for name in join.using}
    pairs = [_equal(left.scope.find(tree.Column(name, at=join.at)), _column(right.scope, name, join.at), join) for name in shared]
    pairs += [_bind_equality(given, left, right, pair, join) for pair in join.on]
    if not pairs:
        raise Refused("unsupported", "A JOIN needs ON with equalities, or USING.", at=join.at)
    node = Joined(left.node, right.node, join.kind, tuple(pairs), join.at)
    return From(node, left.sources + right.sources, left.shared | shared)


def _with_fields(given: Given, right: From) -> From:
    """What a subselect computes is computed before a LEFT JOIN: a row without a partner has nulls there, never its constants."""
    computed: dict[Bound, Bound] = {}
    for source in right.sources:
        for column in source.columns.values():
            if isinstance(column, Apply | InRows | Value):
                computed.setdefault(column, given.fields.new(column.type))
    if not computed:
        return right
    node = Extended(right.node, tuple((new, old) for old, new in computed.items()))  # type: ignore[misc]  # all are fields
    sources = tuple(
        replace(source, columns={name: computed.get(column, column) for name, column in source.columns.items()})
        for source in right.sources
    )
    return From(node, sources, right.shared)


def _column(scope: Scope, name: str, at: int | None) -> Bound:
    return scope.find(tree.Column(name, at=at))


def _bind_equality(
    given: Given, left: From, right: From, pair: tuple[tree.Expression, tree.Expression], join: tree.Join
) -> tuple[Bound, Bound]:
    """The side of the left relation first, whichever way round the user wrote it."""
    both = Scope(left.sources + right.sources, shared=left.shared)
    for written in pair:
        _bind_side(given, both, written)  # a name that is unknown or ambiguous is refused as such
    for first, second in (pair, pair[::-1]):
        try:
            sides = _bind_side(given, left.scope, first), _bind_side(given, right.scope, second)
            if all(any(True for _ in leaves(side)) for side in sides):
                return _equal(*sides, join)
        except Refused as refused:
            if refused.code not in ("unknown_column", "ambiguous_column"):
                raise
    at = next((written.at for written in pair if written.at is not None), join.at)
    raise Refused("unsupported", "Each side of an equality in ON uses columns of one side of the JOIN.", at=at)


def _bind_side(given: Given, scope: Scope, written: tree.Expression) -> Bound:
    found = Found(given.fields.new(INT))
    bound = given.bind(Context(given, scope, found, "ON cannot have aggregates."), written)
    if found.fused or found.uses_row_number:
        raise Refused("unsupported", "ON cannot have rrf(...) or row_number().", at=written.at, hint="Join a subselect.")
    return bound


def _equal(left: Bound, right: Bound, join: tree.Join) -> tuple[Bound, Bound]:
    if left.type.is_list or right.type.is_list:
        raise Refused("type_mismatch", "A JOIN compares scalars.", at=join.at)
    return comparable(left, right, join.at)
