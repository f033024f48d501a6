"""The command `sluice`, which is also `python -m server`. The commands that ask a running server start without loading the server,
which would double the time of a short file."""

import os
import sys

# What a shell reports of a program that wrote into a pipe which nobody reads any more.
EXIT_PIPE = 141


def main() -> int:
    """Run the command that the arguments name; returns its exit code."""
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own flush at the end says nothing
        return EXIT_PIPE
    return code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["score"]:
        from server.commands import score

        return score.main(arguments[1:])
    if arguments[:1] == ["dataset"]:
        from server.commands import dataset

        return dataset.main(arguments[1:])
    if arguments[:1] == ["health"]:
        from server.commands import health

        return health.main(arguments[1:])
    if arguments[:1] == ["model"] and arguments[1:2] != ["import"]:
        from server.commands import model

        return model.main(arguments[1:])
    from server import cli

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
