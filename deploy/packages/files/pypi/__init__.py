"""The tallyd daemon's program. ``tallyd`` on the command line runs it."""

import os
import sys

__all__ = ["main", "program"]


def program() -> str:
    """The program's path."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "tallyd")


def main() -> None:
    """Runs the program in this process' place: signals and its end are its own."""
    path = program()
    os.execv(path, [path, *sys.argv[1:]])
