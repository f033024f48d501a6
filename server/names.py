"""Names that no new user or team may have, because something else has them."""

from collections.abc import Callable, Iterable

from engine.accounts import ADMIN
from engine.datasets import Datasets
from engine.repository.index import Repository
from engine.teams import TeamNames
from handlers.http.routes import RESERVED


def name_check(repository: Repository, dataset_orgs: Callable[[], Iterable[str]]) -> Callable[[str], bool]:
    """A function that tells whether a name is taken by something that is not a user: a route, or the owner of a model or a dataset.

    Names are compared in any case of letters: nobody may pass for `admin` as `Admin`. Accounts calls the function before it adds a
    user.
    """

    def is_taken(name: str) -> bool:
        taken = RESERVED | {ADMIN} | {owner.lower() for owner in (*repository.owners(), *dataset_orgs())}
        return name.lower() in taken

    return is_taken


def team_names(repository: Repository, datasets: Datasets) -> TeamNames:
    """What teams need to know of other names."""
    return TeamNames(lambda name: name.lower() in RESERVED, name_check(repository, datasets.orgs))
