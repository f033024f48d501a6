"""Names that no new user may have, because something else has them."""

from collections.abc import Callable, Iterable

from engine.accounts import ADMIN
from engine.repository.index import Repository
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
