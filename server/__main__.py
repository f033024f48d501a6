"""`python -m server`. The commands `score` and `dataset` start without loading the server, which would double the time of a
short file."""

import sys


def main() -> int:
    """Run the command that the arguments name; returns its exit code."""
    if sys.argv[1:2] == ["score"]:
        from server.commands import score

        return score.main(sys.argv[2:])
    if sys.argv[1:2] == ["dataset"]:
        from server.commands import dataset

        return dataset.main(sys.argv[2:])
    from server import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
