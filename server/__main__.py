"""`python -m server`. The command `score` starts without loading the server, which would double the time of a short file."""

import sys


def main() -> int:
    """Run the command that the arguments name; returns its exit code."""
    if sys.argv[1:2] == ["score"]:
        from server.commands import score

        return score.main(sys.argv[2:])
    from server import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
