"""One source, three dialects: rebinding the shared arithmetic to Triton, Numba and torch.

The modules `draw`, `geometry`, `pixel` and `plan` hold plain functions over a name `xp` that they never import. `bind`
clones each into a new globals dict where `xp` is the namespace of one dialect and every callee is the clone of the same
dialect:

- *torch*: values are tensors [R] (one number a row) or Python numbers; a condition is a mask.
- *numba*: values are scalars of one row; compiled by `numba.njit`.
- *triton*: values are scalars of one row, or tiles of pixels; compiled by `triton.jit`.

Rules for shared code, all found the hard way: a variable keeps its type; no two literals are combined (Triton folds
them in float64, Numba in float32); integer times float is cast first; loops over a run-time count are `while` loops.
"""

import hashlib
import inspect
import linecache
import types
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np


def shared_functions(module: types.ModuleType) -> dict[str, Callable]:
    """The public functions that a shared module defines itself, in their order of writing."""
    return {n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__}


def constants(module: types.ModuleType) -> dict[str, int | float | tuple]:
    """The upper-case numbers of a shared module, and tuples of them."""
    return {n: v for n, v in vars(module).items() if n.isupper() and isinstance(v, int | float | tuple)}


def bind(functions: dict[str, Callable], xp: types.ModuleType, wrap: Callable, extra: dict) -> dict[str, Callable]:
    """Clone `functions` over `xp`; each clone sees the others, the names in `extra`, and nothing else.

    `wrap` compiles a clone (`triton.jit`, `numba.njit`) or returns it as it is.
    """
    scope = {"xp": xp, **extra}
    for name, function in functions.items():
        clone = types.FunctionType(function.__code__, scope, name, function.__defaults__)
        clone.__module__ = scope["__name__"]
        clone.__annotations__ = function.__annotations__
        scope[name] = wrap(clone)
    return {name: scope[name] for name in functions}


def float32_literals(function: types.FunctionType) -> types.FunctionType:
    """The function with float32 literals: Numba would otherwise compute in float64 wherever a literal stands."""

    def narrow(value):
        if isinstance(value, tuple):
            return tuple(narrow(v) for v in value)
        return np.float32(value) if isinstance(value, float) else value

    code = function.__code__.replace(co_consts=tuple(narrow(c) for c in function.__code__.co_consts))
    narrowed = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    narrowed.__qualname__ = function.__qualname__
    return narrowed


def from_source(name: str, source: str, scope: dict) -> Callable:
    """Define a generated function so that `inspect.getsource` (which Triton needs) finds its text."""
    filename = f"<gpuaug {name} {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def switch(name: str, cases: dict[int, str], arguments: str, results: Iterable[str]) -> str:
    """Source of `name(op, ...)`, a chain of `if op == k` over functions of equal signature.

    `cases` maps an opcode to the name of the function it calls. The results start as float32 zeros, so that every path
    has the same types.
    """
    results = list(results)
    lines = [f"def {name}(op, {arguments}):"]
    lines += [f"    {r} = xp.f32(0.0)" for r in results]
    for opcode, function in cases.items():
        lines += [f"    if op == {opcode}:", f"        t = {function}({arguments})"]
        lines += [f"        {r} = xp.f32(t[{i}])" for i, r in enumerate(results)]
    lines.append(f"    return {', '.join(results)}")
    return "\n".join(lines) + "\n"


def source_digest() -> str:
    """A digest of every source of the CPU engine: part of the key of whatever is compiled from them and kept."""
    kernels = Path(__file__).parents[1]
    files = [file for room in ("cpu", "shared") for file in sorted(Path(kernels, room).glob("*.py"))]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()
