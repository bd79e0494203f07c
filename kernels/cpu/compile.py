"""Compiling the C functions of the CPU engine: Numba to LLVM's bitcode, LLVM to machine code; `build` keeps that in a
library, and what is compiled as it is needed is kept on disk.

One file holds one function, in the folder that Numba would take: NUMBA_CACHE_DIR, `__pycache__` beside the sources, or
the user's cache folder. It says itself what it is: a digest of all that follows, the key of what was compiled, and the
machine code. LLVM ends the process, or runs whatever it finds, where that is damaged: nothing is loaded but what has
the right digest and the right key. What cannot be read or written is compiled and used without.
"""

import functools
import hashlib
import os
import sys
import threading
import time
import uuid
import warnings
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from llvmlite.binding import Linkage, ffi
from numba.core import caching, compiler, config
from numba.core.codegen import AOTCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import cpu_target

from ..shared import dialect

TELL_AFTER_S = 1.0
STACK = 16 << 20  # bytes of a thread that compiles: Numba and LLVM nest deeply, and some systems give little
OURS = ("gpuaug", "numba", "torch", "contextlib")  # packages whose frames a warning is not about
VERSIONS = sys.implementation.cache_tag, numba.__version__, llvmlite.__version__
SOURCES = dialect.source_digest()  # as they are now: what is imported is what will be compiled
_told: set[str] = set()
_waits: list[float] = []  # seconds that this process has waited for


class Target(NamedTuple):
    """What machine code is for, in LLVM's words."""

    cpu: str
    features: str
    shared: bool  # as a part of a shared library, not for this process


class Loaded(NamedTuple):
    """A C function in memory."""

    address: int
    was_kept: bool  # it was not compiled, but read


@functools.cache
def here() -> Target:
    """This processor, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say."""
    _, *target = cpu_target.target_context.codegen().magic_tuple()
    return Target(*target, shared=False)


# --- Numba ------------------------------------------------------------------------------------------------------------
class Unfinished(_FunctionCompiler):
    """Compiles to a library that LLVM has neither optimised nor put into memory."""

    def _customize_flags(self, flags):
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        return flags


def _export(context, library, described, symbol):
    """A C function of that name which calls a compiled one. Nothing here raises: its status is not asked for."""
    module = library.create_ir_module(symbol)
    types = [context.get_value_type(kind) for kind in described.argtypes]
    void = described.restype == numba.types.none
    result = ir.VoidType() if void else context.get_value_type(described.restype)
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(result, types), symbol).append_basic_block())
    called = context.declare_function(module, described)
    arguments = builder.function.args
    _, out = context.call_conv.call_function(builder, called, described.restype, described.argtypes, arguments)
    builder.ret_void() if void else builder.ret(out)
    library.add_ir_module(module)


@global_compiler_lock
def bitcode(signature, function, symbol: str) -> bytes:
    """A C function of that name with all that it calls, each its own copy, before LLVM optimises it.

    Args:
        signature: the types of its arguments, and of its result.
        function: as `numba.njit` returns it.
    """
    made = Unfinished(function.py_func, cpu_target, function.targetoptions, {}, compiler.Compiler)
    found = made.compile(*signature)
    library = found.library
    _export(cpu_target.target_context, library, found.fndesc, symbol)
    module = library._final_module
    for callee in dict.fromkeys(library._linking_libraries):
        module.link_in(callee._get_module_for_linking(), preserve=True)
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != symbol:
            value.linkage = Linkage.internal
    return module.as_bitcode()


# --- LLVM -------------------------------------------------------------------------------------------------------------
class Codegen(AOTCPUCodegen):
    """Numba's passes for a target."""

    def __init__(self, target: Target):
        self._target = target
        super().__init__("gpuaug", target.cpu)

    def _customize_tm_features(self):
        return self._target.features

    def _customize_tm_options(self, options):
        super()._customize_tm_options(options)
        if not self._target.shared:
            options.update(reloc="default", codemodel="jitdefault")


@global_compiler_lock
def optimised(code: bytes, target: Target):
    """The library of a function's bitcode for a target: `emit_native_object` gives its machine code, `get_llvm_str` its
    text."""
    library = Codegen(target).create_library("gpuaug")
    library.add_llvm_module(llvm.parse_bitcode(code))
    library.finalize()
    return library


@functools.cache
def _engine():
    """What runs machine code in this process."""
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _into_memory(code: bytes, symbol: str) -> int:
    """The address of the function of that name."""
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address(symbol)


def compiled(signature, function, symbol: str) -> Loaded:
    """Compile a C function for this processor; or load it, if it was kept.

    Args:
        signature, function: as `bitcode` takes them.
        symbol: its name, which stands for its content.
    """
    kept = Kept(function, symbol)
    code = kept.read()
    known = code is not None
    if not known:
        code = optimised(bitcode(signature, function, symbol), here()).emit_native_object()
        kept.write(code)
    return Loaded(_into_memory(code, symbol), known)


# --- a thread ---------------------------------------------------------------------------------------------------------
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
    from. Who waits for long is told what for."""
    compiling, before = Compiling(function), threading.stack_size(STACK)
    start = time.monotonic()
    try:
        compiling.start()
    except RuntimeError:  # the interpreter is about to end, and starts no threads
        compiling.run()
    finally:
        threading.stack_size(before)
    if compiling.ident is not None:
        compiling.join(max(TELL_AFTER_S - sum(_waits), 0.0))
        if compiling.is_alive():
            _say_once("gpuaug: compiling the CPU engine, once for this machine and this version ...")
            compiling.join()
    _waits.append(time.monotonic() - start)
    for kind, what in compiling.told:
        _warn(kind, what)
    if compiling.error is not None:
        raise compiling.error
    return compiling.found


# --- the disk ---------------------------------------------------------------------------------------------------------
class Kept:
    """The file of a function's machine code."""

    def __init__(self, function, symbol: str):
        self.path, self.key = None, b""
        try:
            folder = caching.CompileResultCacheImpl(function.py_func).locator.get_cache_path()
        except RuntimeError:
            told = "no folder can be written to keep the compiled CPU engine in: set NUMBA_CACHE_DIR to one that can"
            _warn("folder", told)
            return
        if config.CACHE_DIR and not Path(folder).is_relative_to(config.CACHE_DIR):
            told = f"NUMBA_CACHE_DIR={config.CACHE_DIR} cannot be written: the compiled CPU engine is kept in {folder}"
            _warn("folder", told)
        machine = _digest(repr((*VERSIONS, *here(), symbol)).encode())
        self.path = Path(folder, f"{symbol[:88]}-{machine.hex()[:16]}.bin")
        self.key = _digest(machine, SOURCES.encode())

    def read(self) -> bytes | None:
        """What the file holds, None if that is not what is wanted."""
        if self.path is None:
            return None
        try:
            kept = self.path.read_bytes()
            if kept[:32] != _digest(kept[32:]):
                raise ValueError("it is damaged")
            return kept[64:] if kept[32:64] == self.key else None
        except FileNotFoundError:
            return None
        except Exception as error:
            _warn("read", f"{self.path} cannot be used ({_reason(error)}): the CPU engine is compiled again")
            return None

    def write(self, code: bytes) -> None:
        """Write the file, in one step."""
        if self.path is None:
            return
        part = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:16]}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_digest(self.key, code) + self.key + code)
            os.replace(part, self.path)
        except Exception as error:
            _warn("write", f"the compiled CPU engine cannot be kept in {self.path.parent} ({_reason(error)})")
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _digest(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def _reason(error):
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


# --- who is told ------------------------------------------------------------------------------------------------------
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


def _say_once(what):
    """One line on stderr where it is a terminal, or GPUAUG_VERBOSE is set."""
    if what not in _told:
        _told.add(what)
        with suppress(AttributeError, OSError, ValueError):  # no stderr, or a closed one
            if os.environ.get("GPUAUG_VERBOSE", "0") not in ("", "0") or sys.stderr.isatty():
                print(what, file=sys.stderr, flush=True)


# A child that is forked while another thread compiles would have the locks, and Numba and LLVM as they were in the
# middle of it, for ever: a fork waits until the function being compiled is done.
_llvm_lock = getattr(ffi.lib, "_lock", nullcontext())
_held = ExitStack()


def _before_fork():
    _held.enter_context(global_compiler_lock)
    _held.enter_context(_llvm_lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_held.close, after_in_child=_held.close)
