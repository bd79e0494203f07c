"""The C functions of the CPU engine in memory: of the library that was built ahead (`build`), else compiled by Numba.

A library stands beside this file, one for each level of a processor's instructions. It holds a digest of the sources
that it was built from: one that does not fit these is never loaded. The environment variable GPUAUG_ENGINE takes
"built" to compile nothing, "jit" to load no library; anything else, as nothing, is the rule above.
"""

import ctypes
import functools
import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..shared import dialect, user
from . import names

V3 = frozenset(["avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"])
LEVELS = {  # from the most able on: what the processor must have, as Linux calls it; architecture
    "x86-64-v4": ("x86_64", V3 | set(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])),
    "x86-64-v3": ("x86_64", V3),
    "aarch64": ("aarch64", frozenset()),
}
MARK = b"gpuaug engine of sources "  # in a library, in front of the digest
JIT_EXTRA = "pip install 'gpuaug[jit]'"
_found: dict[Any, "Function"] = {}


class Function(NamedTuple):
    """A C function: `address` is where it lies; `call` calls it without the interpreter lock, None if Python does not;
    `origin` is "built", "compiled" or "kept"."""

    address: int
    call: Callable | None
    origin: str


def processor() -> frozenset[str]:
    """What the processor can do, as Linux calls it; nothing where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())


def levels() -> list[str]:
    """The levels of code that run here, the most able first."""
    if platform.system() != "Linux":
        return []
    flags, machine = processor(), platform.machine()
    return [level for level, (of, needs) in LEVELS.items() if of == machine and needs <= flags]


def path_of(level: str) -> Path:
    """Where the library of a level stands."""
    return Path(__file__).with_name(f"engine-{level}.so")


@functools.cache
def sources() -> bytes:
    """What a library says that was built from the sources as they are."""
    return MARK + dialect.source_digest().encode()


def fits(path: Path) -> bool:
    """Whether a library is there, and was built from the sources as they are."""
    try:
        return sources() in path.read_bytes()
    except OSError:
        return False


@functools.cache
def built() -> Path | None:
    """The library for this processor, None where there is none that fits."""
    if os.environ.get("GPUAUG_ENGINE") == "jit":
        return None
    return next((path for level in levels() if fits(path := path_of(level))), None)


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(built()))


@functools.cache
def lacks(key: Any = "run_rows") -> str | None:
    """None if the function of a key can be had, else why not: it is not built, and Numba is not there."""
    if built() is not None and not _of_user(key):
        return None
    if os.environ.get("GPUAUG_ENGINE") == "built":
        return (
            f"GPUAUG_ENGINE=built, and {'it is an op of yours' if built() else 'no engine is built for this processor'}"
        )
    if importlib.util.find_spec("numba") is None:
        what = "an op of yours is compiled by numba" if built() else "no engine is built for this processor"
        return f"{what}, and numba is not installed: {JIT_EXTRA}"
    return None


def _of_user(key: Any) -> bool:
    return isinstance(key, tuple) and isinstance(key[0], int) and key[0] >= user.FIRST


def get(key: Any) -> Function:
    """The C function of a key (`names.symbol`).

    Raises:
        ModuleNotFoundError: it has to be compiled, and Numba is not installed.
    """
    found = _found.get(key)
    if found is None:
        found = _found[key] = _loaded(key)
    return found


def _loaded(key: Any) -> Function:
    if reason := lacks(key):
        raise ModuleNotFoundError(f"the CPU engine: {reason}", name="numba")
    if built() is not None and not _of_user(key):
        address, origin = ctypes.cast(_library()[names.symbol(key)], ctypes.c_void_p).value, "built"
    else:
        from . import compile as C
        from . import kernels

        found = C.whole(lambda: C.compiled(*kernels.made(key), names.symbol(key)))
        address, origin = found.address, "kept" if found.was_kept else "compiled"
    return Function(address, _call(key, address), origin)


def _call(key: Any, address: int) -> Callable | None:
    if key in names.CARRIES:
        return ctypes.CFUNCTYPE(None, ctypes.c_int64)(address)
    if key not in names.CALLED:
        return None
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * names.CALLED[key])(address)
