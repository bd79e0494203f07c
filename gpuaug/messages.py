"""What gpuaug tells its user: values cut to one line, names that were probably meant, warnings at the user's line."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

LONGEST = 80  # characters of a value in an error
_SHARE = 0.65  # of two names that must be alike
_INSIDE = tuple(os.path.join(os.path.dirname(path), "") for path in (__file__, torch.__file__))
_INSIDE += ("<eval_with_key>",)  # what torch.fx makes of a graph


def shown(value: Any) -> str:
    """`value` as an error shows it: one line of at most `LONGEST` characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of more than 4300 digits has no repr, nor has a broken object
        return f"a huge {type(value).__name__}" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def meant(word: Any, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" where one of `names` is like `word`, else nothing."""
    if not isinstance(word, str):
        return ""
    by_lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_SHARE)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


LISTED = 16  # names in one line


def check_keywords(op: str, given: Iterable[str], names: Iterable[str]) -> None:
    """Raise a TypeError on a keyword that `op` does not take."""
    names = tuple(names)
    for keyword in given:
        if keyword not in names:
            listed = names if len(names) <= LISTED else (*names[:LISTED], "...")
            hint = meant(keyword, names) or f"; it takes {', '.join(listed) or 'none'}"
            raise TypeError(f"{op}: takes no argument {keyword!r}{hint}")


def spelt(function: Callable, called: str | None = None) -> Callable:
    """A decorator: `function` names what was probably meant by a keyword that it does not take; errors call it
    `called`, or by its name."""
    names = tuple(name for name in inspect.signature(function).parameters if name != "self")

    @functools.wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        check_keywords(called or function.__name__, keywords, names)
        return function(*arguments, **keywords)

    return checked


def no_attribute(module: str, name: str, names: Iterable[str]) -> AttributeError:
    """What a module's `__getattr__` raises."""
    return AttributeError(f"module {module!r} has no attribute {name!r}{meant(name, names)}")


def warn(text: str) -> None:
    """Warn at the innermost line that belongs neither to gpuaug nor to torch."""
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
