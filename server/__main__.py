"""`python -m server`. The client `score` starts without loading the server: that would double the time of a short file."""

import sys


def main() -> int:
    """Run the command that the arguments name; its exit code."""
    if sys.argv[1:2] == ["score"]:
        from server import score

        return score.main(sys.argv[2:])
    from server import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
