"""The command ``gpuaug``; :mod:`gpuaug.commands` has what it can do."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Annotated, Any, Union  # of a tuple, which | cannot be

try:
    import tyro
except ModuleNotFoundError as error:
    if error.name != "tyro":
        raise
    sys.exit("gpuaug: its commands need the fine-tuning extra: pip install 'gpuaug[finetune]'")

from gpuaug.commands import COMMANDS, runs
from gpuaug.commands.finetune import Refused
from gpuaug.commands.terminal import as_options
from gpuaug.messages import meant

Command = Union[  # noqa: UP007
    tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, (kind, _) in COMMANDS.items())
]


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; ``args`` default to the command line. Returns the exit status: 0, 1 where predict could not read
    an image, 2 after one line of error, or 130 after Ctrl-C.

    With GPUAUG_DEBUG set, errors keep their traceback, and warnings the line that they come from.
    """
    try:
        args = sys.argv[1:] if args is None else list(args)
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            choices = f"choose one of {', '.join(COMMANDS)}{meant(args[0], COMMANDS)}"
            raise ValueError(f"there is no command {args[0]!r}; {choices}")
        if args[:1] == ["runs"]:
            args = ["runs", *runs.spelt(args[1:])]
        command = tyro.cli(Command, prog="gpuaug", args=args)
        with _warnings_in_one_line(_options(args)):
            return run(command)
    except (ValueError, Refused, OSError, ModuleNotFoundError) as error:  # OSError: a full disk, no permission
        lacking = isinstance(error, ModuleNotFoundError) and "pip install" not in str(error)  # which names an extra
        if lacking or os.environ.get("GPUAUG_DEBUG"):
            raise
        told = isinstance(error, OSError) and error.filename is not None and error.strerror
        words = f"{error.filename}: {error.strerror}" if told else as_options(str(error), _options(args))
        print(f"gpuaug: {words}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"gpuaug: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _warnings_in_one_line(options: Sequence[str]) -> Iterator[None]:
    """A warning is one line on stderr that begins with "warning: ", without the file and the line that it comes from;
    with GPUAUG_DEBUG set it is as Python has it. ``options``: see :func:`_options`."""
    before = warnings.formatwarning
    if not os.environ.get("GPUAUG_DEBUG"):
        warnings.formatwarning = lambda message, *_, **__: (
            f"warning: {as_options(' '.join(str(message).split()), options)}\n"
        )
    try:
        yield
    finally:
        warnings.formatwarning = before


def _options(args: Sequence[str]) -> list[str]:
    """Names of the options of the command in ``args``, as Python has them."""
    kind = COMMANDS[args[0]][0] if args and args[0] in COMMANDS else None
    return [] if kind is None else [field.name for field in fields(kind)]


def run(command: Any) -> int:
    """Do what was asked for; returns the exit status."""
    does = {kind: does for kind, does in COMMANDS.values()}
    return does[type(command)](command) or 0
