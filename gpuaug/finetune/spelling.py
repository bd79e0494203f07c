"""A config as the command line that says the same."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields

from .config import Config, kinds_of_fields


def command_of(config: Config, given: Sequence[str] = ()) -> str:
    """``gpuaug finetune`` with all options that are not the defaults; ``given``: names of what Python hands over beside
    it, which stands behind as a comment."""
    words = ["gpuaug", "finetune"]
    for field in fields(Config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if kinds_of_fields()[field.name] == (bool,):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    more = f"  # and in Python, with {', '.join(f'{name}=' for name in given)}" if given else ""
    return shlex.join(words) + more
