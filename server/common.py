"""What the server and the commands beside it must agree on: where the shipped models lie, and which names a user cannot have."""

from collections.abc import Callable
from pathlib import Path

from engine.repository.index import Repository
from handlers.http.routes import RESERVED

# The models of the checkout. The server reads them and never writes there.
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"


def name_check(repository: Repository) -> Callable[[str], bool]:
    """A function that tells whether a name is taken by something that is not a user: a route, or the owner of a model.

    Accounts calls it before it adds a user.
    """
    return lambda name: name.lower() in RESERVED or name in repository.owners()
