"""Pixel formulas that users write: registered by opcode, bound to each dialect beside those of `pixel`.

A user's function takes `v`, or `r, g, b`; then `x, y` if it likes; then its own arguments by name, of which `bound` and
`lattice` mean what they mean in `pixel`. `formula` gives it the signature and the rounding of a formula of `pixel`.
"""

import hashlib
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass

from . import dialect

FIRST = 64  # opcodes from here on are users'
STAGE = ("bound", "lattice")


@dataclass(frozen=True)
class Formula:
    """A user's function and what it calls.

    Attributes:
        name: of its formula.
        functions: plain functions over `xp` by name, callees first.
        numbers: the global numbers that they use.
        arguments: the names of its own arguments, at p[0], p[1], ...
        colour: it takes `r, g, b`, not `v`.
        placed: it takes `x, y`.
        source: of the formula that calls it.
    """

    name: str
    functions: tuple[tuple[str, Callable], ...]
    numbers: tuple[tuple[str, float], ...]
    arguments: tuple[str, ...]
    colour: bool
    placed: bool
    source: str

    def digest(self) -> str:
        """A digest of all that is compiled from it."""
        texts = [self.source, repr(self.numbers), *(inspect.getsource(f) for _, f in self.functions)]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()

    def bind(self, xp: types.ModuleType, wrap: Callable, scope: dict, number: Callable = lambda v: v) -> Callable:
        """The formula in a dialect. `scope` holds that dialect's `settle` and `__name__`; `number` wraps a constant."""
        scope = {**scope, **{name: number(value) for name, value in self.numbers}}
        text = dialect.from_source(self.name, self.source, {"__name__": scope["__name__"]})
        return dialect.bind({**dict(self.functions), self.name: text}, xp, wrap, scope)[self.name]


FORMULAS: dict[int, Formula] = {}


def register(function: Callable) -> tuple[int, Formula]:
    """Give a user's function an opcode.

    Raises:
        TypeError: a signature or a global that no dialect could compile.
    """
    made = formula(function)
    opcode = FIRST + len(FORMULAS)
    FORMULAS[opcode] = made
    return opcode, made


def formula(function: Callable) -> Formula:
    """Read a user's function."""
    names = list(inspect.signature(function).parameters)
    colour, here = names[:3] == ["r", "g", "b"], 3 if names[:3] == ["r", "g", "b"] else 1
    if not colour and names[:1] != ["v"]:
        raise TypeError(f"pixel_op {function.__name__}: its arguments must begin with v, or with r, g, b, got {names}")
    placed = names[here : here + 2] == ["x", "y"]
    if placed and not colour:
        raise TypeError(f"pixel_op {function.__name__}: a function of x, y takes r, g, b in front of them, got {names}")
    rest = names[here + 2 * placed :]
    own = tuple(name for name in rest if name not in STAGE)
    pixel = ", ".join(names[: here + 2 * placed])
    given = [pixel, *(name if name in STAGE else f"p[{own.index(name)}]" for name in rest)]
    made, values = f"user_{function.__name__}", ", ".join(names[:here])
    source = (
        f"def {made}({pixel}, p, bound, lattice, channels):\n"
        f"    {values} = {function.__name__}({', '.join(given)})\n"
        f"    return {', '.join(f'settle({v}, bound, lattice)' for v in names[:here])}\n"
    )
    functions, numbers = _globals(function, function.__name__, {}, {})
    return Formula(made, tuple(functions.items()), tuple(numbers.items()), own, colour, placed, source)


def _globals(function: Callable, op: str, functions: dict, numbers: dict) -> tuple[dict, dict]:
    """The functions and numbers that a function uses by global names, callees first."""
    try:
        inspect.getsource(function)
    except OSError:
        told = f"pixel_op {op}: the source of {function.__name__} cannot be read; write it in a file"
        raise TypeError(told) from None
    if function.__closure__:
        raise TypeError(f"pixel_op {op}: {function.__name__} must not use variables of an enclosing function")
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if name == "xp" or name not in function.__globals__ or name in functions:
            continue
        if isinstance(value, int | float):
            numbers[name] = value
        elif inspect.isfunction(value):
            _globals(value, op, functions, numbers)
        else:
            raise TypeError(
                f"pixel_op {op}: {function.__name__} uses the global {name}, a {type(value).__name__}; "
                "only xp, numbers and plain functions can be compiled"
            )
    functions[function.__name__] = function
    return functions, numbers
