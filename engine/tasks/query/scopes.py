"""Scopes: which column a name means, in each clause of a SELECT.

A column of the source wins over an alias of the same SELECT, except in ORDER BY. Knows no types.
"""

from dataclasses import dataclass, field

from engine.tasks.query import tree
from engine.tasks.query.bound import Bound
from engine.tasks.query.refusals import Refused, nearest, quoted


@dataclass(frozen=True, slots=True)
class Visible:
    """A source in FROM with its columns in order. `tables` are the names that can stand before a dot."""

    tables: tuple[str, ...]
    columns: dict[str, Bound]


@dataclass(frozen=True, slots=True)
class Scope:
    """The sources of one SELECT, and its aliases as far as a clause may use them.

    shared  columns of USING: their plain name means this value
    outer   the scope around a subquery, whose columns it cannot use
    """

    sources: tuple[Visible, ...]
    aliases: dict[str, Bound] = field(default_factory=dict)
    aliases_win: bool = False
    shared: dict[str, Bound] = field(default_factory=dict)
    outer: "Scope | None" = None

    def find(self, column: tree.Column) -> Bound:
        """Refused (`unknown_column`, `ambiguous_column`)."""
        found = self._qualified(column) if column.table is not None else self._plain(column)
        if found is None:
            raise self._unknown(column)
        return found

    def _plain(self, column: tree.Column) -> Bound | None:
        alias = self.aliases.get(column.name)
        if alias is not None and self.aliases_win:
            return alias
        if column.name in self.shared:
            return self.shared[column.name]
        owners = [source for source in self.sources if column.name in source.columns]
        if len(owners) > 1:
            raise _ambiguous(column, owners)
        return owners[0].columns[column.name] if owners else alias

    def _qualified(self, column: tree.Column) -> Bound | None:
        named = [source for source in self.sources if column.table in source.tables]
        if len(named) > 1:
            raise Refused(
                "ambiguous_column",
                f'Several sources are called "{quoted(column.table or "")}".',
                at=column.at,
                hint="Give each source an alias of its own.",
            )
        if not named:
            return None
        return named[0].columns.get(column.name)

    def _unknown(self, column: tree.Column) -> Refused:
        if self.outer is not None and self.outer.has(column):
            return Refused("unsupported", "A subquery cannot use columns of the query around it.", at=column.at, hint="Use a JOIN.")
        known = {name for source in self.sources for name in source.columns} | set(self.aliases)
        if column.table is None:
            return Refused(
                "unknown_column",
                f'Unknown column "{quoted(column.name)}".',
                at=column.at,
                hint=_hint(column.name, sorted(known)),
            )
        tables = [table for source in self.sources for table in source.tables]
        name = quoted(f"{column.table}.{column.name}")
        word, words = (column.name, sorted(known)) if column.table in tables else (column.table, tables)
        return Refused("unknown_column", f'Unknown column "{name}".', at=column.at, hint=_hint(word, words))

    def has(self, column: tree.Column) -> bool:
        try:
            self.find(column)
        except Refused as refused:
            return refused.code == "ambiguous_column"
        return True


def _hint(word: str, known: list[str]) -> str | None:
    """The nearest name; one that differs in its case alone is near, however short."""
    same = [name for name in known if name.lower() == word.lower()]
    return f'Did you mean "{quoted(same[0])}"?' if same else nearest(word, known)


def _ambiguous(column: tree.Column, owners: list[Visible]) -> Refused:
    names = [f"{source.tables[0]}.{column.name}" for source in owners if source.tables]
    hint = f"Write {' or '.join(names)}." if len(names) == len(owners) else "Give each source an alias, and write alias.column."
    return Refused("ambiguous_column", f'"{quoted(column.name)}" is a column of several sources.', at=column.at, hint=hint)
