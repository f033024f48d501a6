"""Money: what prices, profits and what is known of returns do to an attribution."""

import pytest

from tests.engine.tasks.projects import sets
from tests.projects.asking import Client, new_project
from tests.projects.files import Sheet
from tests.projects.test_effects import total
from tests.serving import Server

PRICE, PROFIT = 2.0, 0.5


@pytest.fixture(scope="module")
def priced(server: Server, plain: dict[str, Sheet]) -> tuple[Client, int, list[str]]:
    """A dataset whose units cost 2 and leave a profit of 0.5, and its dates."""
    sales = plain["Sales"]
    rows = [[*row[:-1], PRICE, PROFIT] for row in sales.rows]
    client = new_project(server)
    dataset = client.dataset({"Sales": Sheet([*sales.header, "ProfitPerUnit"], rows), "Media": plain["Media"]})
    return client, dataset, client.dates(dataset)


def graph(**of_tv: object) -> dict[str, object]:
    return sets.star(sets.node("tv", "media", **of_tv), sets.node("radio", "media"))


def test_revenue_and_profit_are_units_times_what_one_brings(priced: tuple[Client, int, list[str]]) -> None:
    client, dataset, dates = priced
    model = client.built(dataset, graph())
    answer = client.attributed(model["IId"], dataset, dates[0], dates[-1], samples=100)
    tv = total(answer, "tv")
    for quantile in ("Mean", "P5", "P50", "P95"):
        assert tv["Revenue"][quantile] == pytest.approx(PRICE * tv["Total"][quantile], rel=1e-9)
        assert tv["Profit"][quantile] == pytest.approx(PROFIT * tv["Total"][quantile], rel=1e-9)
        assert tv["RoiProfit"][quantile] == pytest.approx(tv["Profit"][quantile] / tv["Spend"], rel=1e-9)
    row = client.by_date(answer["IId"], node="tv")[20]
    assert row["Revenue"] == pytest.approx(PRICE * row["Mean"], rel=1e-9)


def test_a_target_of_revenue_is_money_already_and_has_no_profit(priced: tuple[Client, int, list[str]]) -> None:
    client, dataset, dates = priced
    drawn = graph()
    drawn["nodes"][0] = {"id": "sales", "kind": "target", "source": {"dataset_name": "Sales", "metric": "Revenue"}}  # type: ignore[index]
    model = client.built(dataset, drawn)
    tv = total(client.attributed(model["IId"], dataset, dates[0], dates[-1], samples=100), "tv")
    assert tv["Revenue"]["Mean"] == pytest.approx(tv["Total"]["Mean"], rel=1e-9)
    assert (tv["Profit"], tv["RoiProfit"]) == (None, None)


def test_what_is_known_of_a_return_on_spend_decides_where_it_is_known_well(priced: tuple[Client, int, list[str]]) -> None:
    client, dataset, dates = priced
    model = client.built(dataset, graph(prior={"roi": [0.01, 0.0001]}))
    tv = total(client.attributed(model["IId"], dataset, dates[0], dates[-1], samples=100), "tv")
    assert tv["Roi"]["Mean"] == pytest.approx(0.01, rel=0.05)
