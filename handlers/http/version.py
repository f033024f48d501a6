"""The version of this server, as the installed package tells it."""

from importlib import metadata


def version() -> str:
    """A checkout that was never installed has none: it is version 0."""
    try:
        return metadata.version("sluice")
    except metadata.PackageNotFoundError:
        return "0"
