"""Names that no new user may have, because something else has them."""

from collections.abc import Callable

from engine.repository.index import Repository
from handlers.http.routes import RESERVED


def name_check(repository: Repository) -> Callable[[str], bool]:
    """A function that tells whether a name is taken by something that is not a user: a route, or the owner of a model.

    Accounts calls it before it adds a user.
    """
    return lambda name: name.lower() in RESERVED or name in repository.owners()
