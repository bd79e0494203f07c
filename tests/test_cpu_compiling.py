"""The CPU engine compiled as it is needed: what is kept on disk, forks and interrupts meanwhile, who is told."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

numba = pytest.importorskip("numba")

from numba import types as nt  # noqa: E402
from numba.core import caching, config  # noqa: E402

from gpuaug.kernels.cpu import compile as cpu_compile  # noqa: E402
from gpuaug.kernels.cpu.dialect import INNER, exact, widest  # noqa: E402
from gpuaug.kernels.shared import dialect  # noqa: E402

plain = numba.njit(**INNER)
HANG_S = 600  # a test that waits as long has hung; nothing is measured
FLIP = "ga.Compose([ga.RandomHorizontalFlip(1.0)], seed=0, backend='cpu')"


WORD = (nt.int64,), nt.int64  # the signature of what is compiled here


def adds(number: int) -> Callable:
    """A function that adds a number."""

    def added(x):
        return x + number

    return plain(added)


def call(address: int, argument: int) -> int:
    """What the C function at an address, `int64_t (int64_t)`, returns."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(argument)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to keep functions in, with nothing told yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu_compile, "_told", set())
    return tmp_path


def compiled(number: int, name: str) -> tuple[bool, list[str]]:
    """Whether a C function of that name was loaded, and what was warned of meanwhile; its result is checked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = cpu_compile.compiled(WORD, adds(number), f"gpuaug_{name}")
    assert call(made.address, 41) == 41 + number
    for warning in caught:
        assert warning.filename == __file__, "a warning points at the line of who called"
    return made.was_kept, [str(warning.message) for warning in caught]


def run_script(script: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder), "GPUAUG_ENGINE": "jit", **environment}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=env)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-1000:]} {done.stderr[-3000:]}"
    return done


# --- what is kept -----------------------------------------------------------------------------------------------------
def test_a_kept_function_is_loaded(folder: Path) -> None:
    assert compiled(1, "loaded") == (False, [])
    (path,) = folder.rglob("*.bin")
    assert path.name.startswith("gpuaug_loaded-") and not list(folder.rglob("*.nb?"))
    assert compiled(1, "loaded") == (True, [])


def test_every_source_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rooms = tmp_path / "kernels"
    for room in ("cpu", "shared"):
        shutil.copytree(
            Path(dialect.__file__).parents[1] / room, rooms / room, ignore=shutil.ignore_patterns("_*", "*.so")
        )
    monkeypatch.setattr(dialect, "__file__", str(rooms / "shared" / "dialect.py"))
    (rooms / "cpu" / "kept.bin").write_bytes(b"kept")
    before, sources = dialect.source_digest(), sorted(rooms.rglob("*.py"))
    assert {path.parent.name for path in sources} == {"shared", "cpu"}
    for path in sources:
        path.write_bytes(path.read_bytes() + b"\n")
        now = dialect.source_digest()
        assert now != before
        before = now


def test_other_sources_and_versions_are_compiled_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a warning: new sources replace the file, another version has one of its own."""
    assert compiled(2, "stale") == (False, [])
    monkeypatch.setattr(cpu_compile, "SOURCES", "other")
    assert compiled(2, "stale") == (False, []) and compiled(2, "stale") == (True, [])
    assert len(list(folder.rglob("*.bin"))) == 1
    monkeypatch.setattr(cpu_compile, "VERSIONS", ("cpython-311", "0.1", "0.1"))
    assert compiled(2, "stale") == (False, []) and len(list(folder.rglob("*.bin"))) == 2


def flipped(kept: bytes, at: float) -> bytes:
    place = int(at * (len(kept) - 1))
    return kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]


DAMAGES = {
    "empty": lambda kept: b"",
    "a part of the digest": lambda kept: kept[:20],
    "cut in the head": lambda kept: kept[:64],
    "cut in the middle": lambda kept: kept[: len(kept) // 2],
    "cut at the end": lambda kept: kept[:-1],
    "longer": lambda kept: kept + b"\0",
    "zeros": lambda kept: bytes(len(kept)),
    "a bit of the digest": lambda kept: flipped(kept, 0.0),
    "a bit of the machine code": lambda kept: flipped(kept, 0.5),
    "the last bit": lambda kept: flipped(kept, 1.0),
    "another program's": lambda kept: b"\x7fELF" + kept,
    "machine code alone": lambda kept: kept[64:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_again_and_replaced(folder: Path, damage: str) -> None:
    name = f"damaged_{list(DAMAGES).index(damage)}"
    compiled(3, name)
    (path,) = folder.rglob("*.bin")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    loaded, (told,) = compiled(3, name)
    assert not loaded and told.startswith(f"gpuaug: {path} cannot be used (")
    assert told.endswith("): the CPU engine is compiled again") and "\n" not in told
    assert compiled(3, name) == (True, [])
    path.write_bytes(b"")
    assert compiled(3, name) == (False, []), "it is said once"


def test_a_file_that_cannot_be_opened(folder: Path) -> None:
    compiled(4, "folder")
    (path,) = folder.rglob("*.bin")
    path.unlink()
    path.mkdir()
    loaded, told = compiled(4, "folder")
    assert not loaded and [t.split(" (")[0] for t in told] == [
        f"gpuaug: {path} cannot be used",
        f"gpuaug: the compiled CPU engine cannot be kept in {path.parent}",
    ]
    assert compiled(4, "folder") == (False, [])
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no part of a file is left"


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the file; once there is room, it is kept."""
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> None:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    loaded, (told,) = compiled(5, "full")
    assert not loaded and "cannot be kept in" in told and told.endswith(f"({os.strerror(errno.ENOSPC)})")
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert compiled(5, "full") == (False, [])
    monkeypatch.setattr(Path, "write_bytes", write)
    assert compiled(5, "full") == (False, []) and compiled(5, "full") == (True, [])


def test_no_folder_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    loaded, (told,) = compiled(6, "nowhere")
    assert not loaded and "no folder can be written" in told and "NUMBA_CACHE_DIR" in told
    assert compiled(6, "nowhere") == (False, [])


def test_a_folder_that_cannot_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's next one is taken."""
    file = folder / "file"
    file.write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", str(file / "inside"))
    loaded, (told,) = compiled(7, f"elsewhere_{os.getpid()}")
    kept = Path(told.rpartition(" kept in ")[2])
    try:
        assert not loaded and told.startswith(f"gpuaug: NUMBA_CACHE_DIR={file / 'inside'} cannot be written")
        assert list(kept.glob(f"gpuaug_elsewhere_{os.getpid()}-*.bin"))
    finally:
        for path in kept.glob(f"gpuaug_elsewhere_{os.getpid()}-*.bin"):
            path.unlink()


ENGINE = f"""
import sys, warnings, torch, gpuaug as ga
x = torch.arange(3 * 64, dtype=torch.uint8).view(1, 3, 8, 8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    right = torch.equal({FLIP}(x), x.flip(3))
from gpuaug.kernels.cpu import engine
print(right, sum(found.origin == "kept" for found in engine._found.values()), len(engine._found))
for w in caught: print(w.filename, w.message)
"""


@pytest.mark.slow  # compiles the engine with nothing kept, three times
def test_an_engine_of_damaged_files(tmp_path: Path) -> None:
    """The whole life of a folder: written, read, damaged in all files, read again, too small a disk, not a folder."""

    def call(folder: Path = tmp_path / "kept", script: str = ENGINE) -> tuple[str, list[str]]:
        first, *told = run_script(script, folder).stdout.splitlines()
        return first, told

    first, told = call()
    n = int(first.split()[2])
    assert (first, told) == (f"True 0 {n}", [])
    assert call() == (f"True {n} {n}", [])
    paths = sorted((tmp_path / "kept").rglob("*.bin"))
    assert len(paths) == n
    for i, path in enumerate(paths):
        kept = path.read_bytes()
        path.write_bytes([b"", kept[: len(kept) // 2], flipped(kept, 0.3), os.urandom(len(kept))][i % 4])
    first, told = call()
    assert first == f"True 0 {n}" and len(told) == 1 and told[0].startswith("<string> gpuaug: ")
    assert call() == (f"True {n} {n}", [])
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    if sys.platform == "linux":
        first, told = call(tmp_path / "small", limit + ENGINE)
        assert first == f"True 0 {n}" and len(told) == 1 and os.strerror(errno.EFBIG) in told[0]
        left = [path for path in (tmp_path / "small").rglob("*.bin*") if path.is_file()]
        assert all(path.suffix == ".bin" and path.stat().st_size <= 4096 for path in left), "some fit; no part is left"


# --- forks ------------------------------------------------------------------------------------------------------------
FORKED = """
import os, sys, threading, torch, gpuaug as ga
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock
from gpuaug.kernels.cpu import compile as cpu_compile
from gpuaug.kernels.cpu.dialect import exact
from numba import types as nt
import ctypes
def compile_one(name):
    source = f"def {name}(x):\\n    return x + 1\\n"
    path = os.path.join(sys.argv[1], name + ".py")
    with open(path, "w") as file: file.write(source)
    scope = {}
    exec(compile(source, path, "exec"), scope)
    address = cpu_compile.compiled(((nt.int64,), nt.int64), exact(scope[name]), "gpuaug_" + name).address
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(41)
assert compile_one("before") == 42
locks = [global_compiler_lock, ffi.lib._lock] if sys.argv[2] == "both" else [ffi.lib._lock]
taken, forking = threading.Event(), threading.Event()
def other_thread():
    for lock in locks: lock.__enter__()
    taken.set()
    forking.wait()
    threading.Event().wait(0.2)  # gives the fork the time to happen while the locks are held, if it can
    for lock in reversed(locks): lock.__exit__(None, None, None)
thread = threading.Thread(target=other_thread)
thread.start()
taken.wait()
forking.set()
pid = os.fork()
if pid == 0:
    os._exit(0 if compile_one("child") == 42 else 1)
thread.join()
assert compile_one("parent") == 42
print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("locks", ["both", "llvm's"])
def test_a_child_forked_while_another_thread_compiles(tmp_path: Path, locks: str) -> None:
    """It compiles: a fork waits for the locks that it would otherwise inherit from a thread that is not there."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path), locks]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=HANG_S / 5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        raise
    assert (process.returncode, out.split()) == (0, ["0"]), err


# --- interrupts -------------------------------------------------------------------------------------------------------
INTERRUPTED = f"""
import random, signal, torch, gpuaug as ga
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
x = torch.arange(3 * 64, dtype=torch.uint8).view(1, 3, 8, 8)
rng, stopped = random.Random(0), 0
for _ in range(25):
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.05, 1.0))
    try:
        {FLIP}(x)
    except Stop:
        stopped += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
print(stopped > 0, torch.equal({FLIP}(x), x.flip(3)))
"""


@pytest.mark.slow  # compiles the engine, in parts
@pytest.mark.skipif(os.name == "nt", reason="needs signal.setitimer")
def test_an_engine_whose_compiling_was_interrupted_often(tmp_path: Path) -> None:
    assert run_script(INTERRUPTED, tmp_path).stdout.split() == ["True", "True"]


def test_what_compiles_has_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """So an exception out of nowhere never reaches Numba; what it returns, raises and warns of comes back."""
    monkeypatch.setattr(cpu_compile, "_told", set())
    assert cpu_compile.whole(threading.current_thread) is not threading.current_thread()
    with pytest.raises(KeyError, match="no such name"):
        cpu_compile.whole(lambda: {}["no such name"])
    with pytest.warns(RuntimeWarning, match="something") as caught:
        cpu_compile.whole(lambda: cpu_compile._warn("kind", "something"))
    assert caught[0].filename == __file__


def test_the_wait_for_it_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, ended = threading.Event(), threading.Event()

    def interrupted(thread: threading.Thread, seconds: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cpu_compile.Compiling, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cpu_compile.whole(lambda: (gate.wait(60), ended.set()))
    assert not ended.is_set()
    gate.set()
    assert ended.wait(60), "it goes on to its end"


# --- the same code in each process ------------------------------------------------------------------------------------
def test_a_function_calls_its_own_copies(folder: Path) -> None:
    """Not those that its callees were compiled to by themselves, which only the process that compiles has."""

    @exact
    def apart(x):
        widest()  # is not inlined
        return x * 3 + 1

    @plain
    def outer(x):
        return apart(x) + apart(x + 1)

    name = "gpuaug_calls_its_own_copies"
    text = cpu_compile.optimised(cpu_compile.bitcode(WORD, outer, name), cpu_compile.here()).get_llvm_str()
    assert call(cpu_compile.compiled(WORD, outer, name).address, 2) == 17 and "linkonce_odr" not in text
    assert re.search(r"define internal .*apart", text)
    defined = re.findall(r"^define (?!internal).*@(\w+)\(", text, re.M)
    assert defined == [name], "and nothing else is seen from outside"


# --- who is told ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("terminal, verbose, tells", [(0, "", 0), (0, "0", 0), (1, "", 1), (0, "1", 1), (1, "1", 1)])
def test_who_waits_for_more_than_a_second_is_told_once(
    terminal: int, verbose: str, tells: int, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("GPUAUG_VERBOSE", verbose)
    monkeypatch.setattr(cpu_compile, "_told", set())
    monkeypatch.setattr(cpu_compile, "_waits", [])
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: bool(terminal), raising=False)
    join, waited = cpu_compile.Compiling.join, []

    def said() -> str:
        waited.clear()
        assert cpu_compile.whole(lambda: 42) == 42
        return capsys.readouterr().err

    def joins(thread: threading.Thread, seconds: float | None = None) -> None:
        waited.append(seconds)
        if seconds != 0.0:
            join(thread)

    monkeypatch.setattr(cpu_compile.Compiling, "join", joins)
    line = "gpuaug: compiling the CPU engine, once for this machine and this version ...\n"
    assert said() == "" and waited == [cpu_compile.TELL_AFTER_S]
    monkeypatch.setattr(cpu_compile, "_waits", [0.4, 0.7])
    monkeypatch.setattr(cpu_compile.Compiling, "is_alive", lambda self: True)
    assert said() == line * tells and waited == [0.0, None]
    assert said() == "", "it is told once"


def test_a_closed_stderr_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUAUG_VERBOSE", "1")
    closed = (tmp_path / "closed").open("w")
    closed.close()
    for stderr in (None, closed):
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(cpu_compile, "_told", set())
        cpu_compile._say_once("gpuaug: compiling")


@pytest.mark.slow  # compiles the engine with nothing kept
def test_the_first_call_tells_and_the_next_process_does_not(tmp_path: Path) -> None:
    """The kept engine is loaded without a word."""
    line = "gpuaug: compiling the CPU engine, once for this machine and this version ...\n"
    assert run_script(ENGINE, tmp_path, GPUAUG_VERBOSE="1").stderr == line
    assert run_script(ENGINE, tmp_path, GPUAUG_VERBOSE="1").stderr == ""
