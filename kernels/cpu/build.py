"""Build the CPU engine ahead: all its C functions as one shared library for each level of a processor's instructions.

    python -m gpuaug.kernels.cpu.build [--out FOLDER] [--level x86-64-v3 ...] [--if-possible]

Numba compiles each function to bitcode once, in as many processes as there are cores, and LLVM that to machine code for
every level; a C compiler links. It takes minutes. Without `--out` the libraries stand where `engine` finds them. The
folder `kernels` can also be imported under another name, as builds of the wheel do, which have no torch.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from . import engine, names

CPUS = {"aarch64": "generic"}  # LLVM's name of a level, where it is another one
COMPILERS = ("cc", "gcc", "clang")


def buildable() -> list[str]:
    """The levels whose libraries can be built on this machine, be it that they do not run on it."""
    if platform.system() != "Linux":
        return []
    return [level for level, (machine, _) in engine.LEVELS.items() if machine == platform.machine()]


def _target(level: str):
    from .compile import Target

    return Target(CPUS.get(level, level), "", shared=True)


def _functions(key, levels: Sequence[str], folder: str) -> list[str]:
    """Compile one function for all levels; returns its files, in the order of the levels."""
    from . import compile as C
    from . import kernels

    symbol, made = names.symbol(key), []
    code = C.bitcode(*kernels.made(key), symbol)
    for level in levels:
        path = Path(folder, f"{symbol}-{level}.o")
        path.write_bytes(C.optimised(code, _target(level)).emit_native_object())
        made.append(str(path))
    return made


def _marked(level: str, folder: str) -> str:
    """The file of an object that says what sources the library is built from."""
    from llvmlite import ir
    from numba.core.compiler_lock import global_compiler_lock

    from .compile import Codegen

    text = engine.sources()
    library = Codegen(_target(level)).create_library("sources")
    module = library.create_ir_module("sources")
    words = ir.GlobalVariable(module, ir.ArrayType(ir.IntType(8), len(text)), "gpuaug_sources")
    words.initializer, words.global_constant = ir.Constant(words.type.pointee, bytearray(text)), True
    library.add_ir_module(module)
    path = Path(folder, f"sources-{level}.o")
    with global_compiler_lock:
        path.write_bytes(library.emit_native_object())
    return str(path)


def linker() -> list[str]:
    """The command that links. Raises SystemExit where there is none."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise SystemExit(f"no C compiler to link the CPU engine with: none of {', '.join(COMPILERS)} is there; set CC")
    return compiler.split()


def _link(command: list[str], objects: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    options = ["-shared", "-nostartfiles", "-Wl,-s", "-Wl,-z,defs", "-o", str(part)]
    done = subprocess.run([*command, *options, *objects, "-lm"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} cannot link the CPU engine: {done.stderr.strip()}")
    os.replace(part, path)


def build(folder: Path, levels: Sequence[str] | None = None) -> list[Path]:
    """Build the libraries of some levels, by default all that can be, in a folder; returns their paths.

    Raises:
        SystemExit: there is nothing to link with, or linking fails.
    """
    levels, command = buildable() if levels is None else list(levels), linker()
    keys, start, objects = names.every(), time.monotonic(), []
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            waiting = [pool.submit(_functions, key, levels, scratch) for key in keys]
            for n, one in enumerate(waiting, 1):
                objects.append(one.result())
                _tell(f"building the CPU engine: {n} of {len(keys)} functions", over=True)
        paths = [Path(folder, engine.path_of(level).name) for level in levels]
        for i, (level, path) in enumerate(zip(levels, paths, strict=True)):
            _link(command, [*(made[i] for made in objects), _marked(level, scratch)], path)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in paths)
    _tell(f"built the CPU engine in {time.monotonic() - start:.0f} s: {len(keys)} functions, {sizes}")
    return paths


def _tell(what: str, over: bool = False) -> None:
    """A line of progress, over the last one on a terminal; elsewhere the last one alone."""
    if sys.stderr.isatty():
        print(f"\r{what:100}", end="" if over else "\n", file=sys.stderr, flush=True)
    elif not over:
        print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the libraries")
    parser.add_argument("--level", nargs="+", choices=list(engine.LEVELS), help="default: all that can be built here")
    parser.add_argument(
        "--if-possible", action="store_true", help="no error where nothing can be built: a line says so"
    )
    args = parser.parse_args()
    try:
        levels = args.level or buildable()
        if not levels:
            raise SystemExit(f"the CPU engine is not built ahead on {platform.system()} {platform.machine()}")
        linker()
    except SystemExit as reason:
        if not args.if_possible:
            raise
        print(f"{reason}. It is compiled as it is needed.", file=sys.stderr)
        return
    build(args.out, levels)


if __name__ == "__main__":
    main()
