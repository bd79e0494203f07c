"""Compiling the C functions of the CPU engine, and keeping them on disk.

One file holds one function, in the folder that Numba would take: NUMBA_CACHE_DIR, `__pycache__` beside the sources, or
the user's cache folder. It says itself what it is: a digest of all that follows, the key of what was compiled, and the
function as Numba pickles it. LLVM ends the process, or runs whatever it finds, where machine code is damaged: nothing
is loaded but what has the right digest and the right key. What cannot be read or written is compiled and used without.
"""

import gc
import hashlib
import os
import pickle
import sys
import threading
import time
import uuid
import warnings
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import llvmlite
import numba
from llvmlite.binding import Linkage, ffi
from numba.core import caching, compiler, config, event, sigutils
from numba.core.ccallback import CFunc
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from ..shared import dialect

TELL_AFTER_S = 1.0
STACK = 16 << 20  # bytes of a thread that compiles: Numba and LLVM nest deeply, and some systems give little
OURS = ("gpuaug", "numba", "torch", "contextlib")  # packages whose frames a warning is not about
VERSIONS = sys.implementation.cache_tag, numba.__version__, llvmlite.__version__
SOURCES = dialect.source_digest()  # as they are now: what is imported is what will be compiled
_told: set[str] = set()
_waits: list[float] = []  # seconds that this process has compiled for


def compiled(signature, function):
    """Compile a C function of a name that stands for its content; or load it, if it was kept.

    `.ctypes` calls it, `.address` is where it lies, `.cache_hits` is 1 if it was loaded.
    """
    made = CFunc(function, sigutils.normalize_signature(signature), {}, {"error_model": "numpy"})
    made._cache = Kept(function)
    with swiftly(), by_itself():
        made.compile()
    return made


class Compiling(threading.Thread):
    """Calls a function that compiles; has what it returns, raises and warns of."""

    def __init__(self, function):
        super().__init__(name="gpuaug-compiling")
        self.function, self.found, self.error, self.told = function, None, None, []

    def run(self):
        try:
            with global_compiler_lock:
                self.found = self.function()
        except BaseException as error:
            self.error = error


def whole(function):
    """What a function that compiles returns, called in a thread of its own: an exception out of nowhere, of Ctrl-C or
    of a timer, ends the wait for it, and does not leave Numba in the middle of something, which it would never recover
    from."""
    compiling, before = Compiling(function), threading.stack_size(STACK)
    try:
        compiling.start()
    except RuntimeError:  # the interpreter is about to end, and starts no threads
        compiling.run()
    finally:
        threading.stack_size(before)
    if compiling.ident is not None:
        compiling.join()
    for kind, what in compiling.told:
        _warn(kind, what)
    if compiling.error is not None:
        raise compiling.error
    return compiling.found


class Kept(caching.NullCache):
    """The file of a function."""

    def __init__(self, function):
        self.function = function

    def _file(self, codegen):
        """Its path, None where no folder can be written; and the key of what it must hold, 32 bytes."""
        try:
            folder = caching.CompileResultCacheImpl(self.function).locator.get_cache_path()
        except RuntimeError:
            told = "no folder can be written to keep the compiled CPU engine in: set NUMBA_CACHE_DIR to one that can"
            _warn("folder", told)
            return None, b""
        if config.CACHE_DIR and not Path(folder).is_relative_to(config.CACHE_DIR):
            told = f"NUMBA_CACHE_DIR={config.CACHE_DIR} cannot be written: the compiled CPU engine is kept in {folder}"
            _warn("folder", told)
        name = self.function.__qualname__
        machine = _digest(repr((*VERSIONS, codegen.magic_tuple(), name)).encode())
        path = Path(folder, f"gpuaug-{name.rpartition('.')[2][:80]}-{machine.hex()[:16]}.bin")
        return path, _digest(machine, SOURCES.encode())

    def load_overload(self, signature, target_context):
        """What the file holds, None if that is not what is wanted."""
        target_context.refresh()
        path, key = self._file(target_context.codegen())
        if path is None:
            return None
        try:
            kept = path.read_bytes()
            if kept[:32] != _digest(kept[32:]):
                raise ValueError("it is damaged")
            if kept[32:64] != key:
                return None
            return compiler.CompileResult._rebuild(target_context, *pickle.loads(kept[64:]))
        except FileNotFoundError:
            return None
        except Exception as error:
            _warn("read", f"{path} cannot be used ({_reason(error)}): the CPU engine is compiled again")
            return None

    def save_overload(self, signature, result):
        """Write the file, in one step."""
        path, key = self._file(result.codegen)
        if path is None:
            return
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
        try:
            content = key + dumps(result._reduce())
            part.write_bytes(_digest(content) + content)
            os.replace(part, path)
        except Exception as error:
            _warn("write", f"the compiled CPU engine cannot be kept in {path.parent} ({_reason(error)})")
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _digest(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def _reason(error):
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _warn(kind, what):
    """Warn at the user's line, once for each kind of trouble."""
    thread = threading.current_thread()
    if isinstance(thread, Compiling):  # which has no user's line
        thread.told.append((kind, what))
        return
    if kind in _told:
        return
    _told.add(kind)
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(f"gpuaug: {what}", RuntimeWarning, stacklevel=level)


class Lightly(event.Listener):
    """Lowers Numba's optimisation while it compiles what a C function calls, which is then optimised as part of it; and
    tells who waits for more than a second what for."""

    def __init__(self):
        self.depth, self.level, self.start = 0, config.OPT, time.monotonic()

    def on_start(self, what):
        self.depth += 1
        config.OPT = type(self.level)(1)
        if sum(_waits) + time.monotonic() - self.start > TELL_AFTER_S:
            _say_once("gpuaug: compiling the CPU engine, once for this machine and this version ...")

    def on_end(self, what):
        self.depth -= 1
        if self.depth == 0:
            config.OPT = self.level


def _say_once(what):
    """One line on stderr where it is a terminal, or GPUAUG_VERBOSE is set."""
    if what not in _told:
        _told.add(what)
        with suppress(AttributeError, OSError, ValueError):  # no stderr, or a closed one
            if os.environ.get("GPUAUG_VERBOSE", "0") not in ("", "0") or sys.stderr.isatty():
                print(what, file=sys.stderr, flush=True)


@contextmanager
def by_itself():
    """Have a C function call its own copies of what it calls.

    Each callee is in memory once more, as it was compiled for itself: lightly, and with other roundings. A symbol that
    could stand for both would make the bits of the process that compiles others than those of all later ones.
    """
    finalize = CPUCodeLibrary._finalize_final_module

    def keep_to_itself(library):
        if level == config.OPT:
            for function in library._final_module.functions:
                if function.linkage == Linkage.linkonce_odr:
                    function.linkage = Linkage.internal
        finalize(library)

    level = config.OPT
    CPUCodeLibrary._finalize_final_module = keep_to_itself
    try:
        yield
    finally:
        CPUCodeLibrary._finalize_final_module = finalize


@contextmanager
def swiftly():
    """Compile in about two thirds of the time: lightly, and without looking for garbage among all that is imported."""
    collecting, lightly = gc.isenabled(), Lightly()
    try:
        gc.disable()
        with event.install_listener("numba:compile", lightly):
            yield
    finally:
        config.OPT = lightly.level
        _waits.append(time.monotonic() - lightly.start)
        if collecting:
            gc.enable()


# A child that is forked while another thread compiles would have the locks, and Numba and LLVM as they were in the
# middle of it, for ever: a fork waits until the function being compiled is done.
_llvm_lock = getattr(ffi.lib, "_lock", nullcontext())
_held = ExitStack()


def _before_fork():
    _held.enter_context(global_compiler_lock)
    _held.enter_context(_llvm_lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_held.close, after_in_child=_held.close)
