"""Bombs: statements that are allowed and cost too much. They may be answered, refused or stopped, but they harm nobody."""

import time
from collections.abc import Iterator

import pytest

from tests.query.asking import ask, put, put_table
from tests.query.neighbours import Neighbour
from tests.query.statements import tables
from tests.serving import Server, serving

WIDE = '"admin/wide"'
LIMIT_MS = 3000
# After its limit a query has 0.5 s to end by itself; the rest is for a busy machine.
MORE_S = 2.0


def doubling(column: str, operator: str, levels: int) -> str:
    """A subselect in a subselect, each of which has twice the column before."""
    text = f"select {column} as x from {WIDE}"
    for _ in range(levels):
        text = f"select x {operator} x as x from ({text})"
    return text


BOMBS = {
    "sums that double": doubling("n", "+", 14),
    "texts that double": f"select max(length(x)) as n from ({doubling('t', '||', 10)})",
    "a product of joins": f"select count(*) as n from {WIDE} a join {WIDE} b on a.k = b.k join {WIDE} c on a.k = c.k",
    "a join of unions": f"with u as (select k from {WIDE} union all select k from {WIDE}), "
    "v as (select k from u union all select k from u) select sum(a.k) as s from v a join v b on a.k = b.k",
    "cases in cases": f"select {'case when n > 1 then 1 else ' * 40} 0 {'end ' * 40} as x from {WIDE}",
    "many patterns": f"select count(*) as n from {WIDE} where " + " or ".join(f"t like '%a%b%c%d%{i}%e%f%'" for i in range(300)),
    "lists of everything": f"select k, t, n from {WIDE} group by k",
    "many keys": f"select n from {WIDE} order by " + ", ".join(f"length(t) % {i}" for i in range(2, 90)) + " limit 1",
    "every pair of rows": f"select a.n as n, b.n as m, a.t || b.t as t from {WIDE} a join {WIDE} b on a.j = b.j "
    "order by t desc limit 9",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("bombs") / "data") as running:
        put_table(running, tables()["books"])
        put(running, "admin/wide", ({"n": i, "k": i % 3, "j": i % 100, "t": f"abcdef {i} " * 20} for i in range(20_000)))
        yield running


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_harms_nobody(server: Server, bomb: str) -> None:
    """Whatever becomes of it, it ends in time, and somebody else is answered meanwhile."""
    with Neighbour(server) as neighbour:
        started = time.monotonic()
        answer = ask(server, BOMBS[bomb], timeout_ms=LIMIT_MS)
        assert time.monotonic() - started < LIMIT_MS / 1000 + MORE_S
    assert answer.status_code in (200, 400, 422, 504), answer.text
    if answer.status_code != 200:
        assert answer.json()["code"] in ("too_complex", "result_too_large", "timeout", "out_of_memory"), answer.text
    assert neighbour.faults == []
