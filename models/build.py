"""Make the example models that ship: `python models/build.py [NAME ...]`.

Each builder trains on a part of its data, the folder is written beside this file, and the written files are then loaded and held
to their promises: quality on the rest of the data, agreement with scikit-learn, batches that answer as single records do.
Without names all committed models are built; `credit` and `toxicity` only when named. README.md says where the data come from.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import folder
import tables
import texts

ROOT = Path(__file__).parent

COMMITTED: dict[str, Callable[[], folder.Built]] = {
    "HelloWorld": texts.hello_world,
    "iris": tables.iris,
    "wine": tables.wine,
    "diabetes": tables.diabetes,
    "penguins": tables.penguins,
    "language": texts.language,
}
ON_DEMAND: dict[str, Callable[[], folder.Built]] = {
    "credit": tables.credit,
    "toxicity": texts.toxicity,
}


def main() -> None:
    for name in chosen_names():
        built = (COMMITTED | ON_DEMAND)[name]()
        print(folder.check(folder.write(built, ROOT), built), flush=True)


def chosen_names() -> list[str]:
    """The names on the command line; without any, those of the committed models."""
    parser = argparse.ArgumentParser(description="Make the example models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMITTED | ON_DEMAND))
    names = parser.parse_args().names
    for name in names:
        if name not in COMMITTED | ON_DEMAND:
            parser.error(f"no model {name!r}; there are {', '.join(COMMITTED | ON_DEMAND)}")
    return names or list(COMMITTED)


if __name__ == "__main__":
    main()
