"""``python -m losses``: what there is, and where this package lies (a local ``losses.py`` would stand in front of it);
``python -m losses choose --task regression --outliers``: what fits."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import losses
from losses.core.errors import ConfigError
from losses.core.fits import CONDITIONS, TASKS
from losses.core.registry import find


def main(arguments: Sequence[str] = ()) -> int:
    """Print what is asked for and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what someone documents may not fit into the terminal's set
    if arguments[:1] != ["choose"]:
        show_all()
        return 0
    if len(arguments) == 1 or {"-h", "--help"} & set(arguments):
        show_words()
        return 0
    try:
        show_choice(arguments[1:])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def show_all() -> None:
    """Print every loss, by family."""
    print(f"losses, from {Path(losses.__file__).parent}\n")
    names = losses.available()
    width = max(map(len, names))
    for family in sorted({find(name).family for name in names}):
        print(family)
        for name in losses.available(family):
            spec = find(name)
            aliases = f" ({', '.join(spec.aliases)})" if spec.aliases else ""
            print(f"  {name:<{width}}  {spec.summary}{aliases}")
    print('\nlosses.describe("triplet") tells more of one; losses.create("triplet", margin=0.3) builds it.')
    print("python -m losses choose --task regression --outliers says which fit.")


def show_words() -> None:
    """Print what can be asked for."""
    width = max(map(len, (*TASKS, *CONDITIONS)))
    for title, words in (("--task, one of", TASKS), ("conditions, as --label-noise", CONDITIONS)):
        print(title)
        for word, meaning in words.items():
            print(f"  {word:<{width}}  {meaning}")


def show_choice(arguments: Sequence[str]) -> None:
    """Print the losses that fit, the best first; whatever is not the task is a condition.

    Raises:
        ConfigError: a word is unknown.
    """
    task, conditions = None, {}
    left = iter(arguments)
    for argument in left:
        word, _, value = argument.removeprefix("--").partition("=")
        if word == "task":
            task = (value or next(left, "")).replace("-", "_")
        else:
            conditions[word.replace("-", "_")] = True
    choices = losses.choose(task, **conditions)
    print("\n".join(map(str, choices)) or "No loss claims that.")


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads a pipe has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        status = 1
    sys.exit(status)
