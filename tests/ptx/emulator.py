"""The triton backend on the CPU: each launch executes the PTX that Triton compiles for sm_90.

    with emulated(Schedule(seed=1, yields=20, resident=4)) as emulation:
        augment(images)                     # backend="triton", images on the CPU
    emulation.weight["write_kernel"]        # weighed instructions

`translate.py` makes C++ of the PTX, g++ makes a library of it and of `runtime.cpp`, and what was built is kept with
pytest's cache. Tensors have addresses of their own, each storage far from the others, so that what lies beside one is
nobody's. A launch ends with a `Fault` at the first access that is out of bounds, misaligned, reads what nothing wrote
since `torch.empty`, or races with another (`memory.h`), and where all threads wait for ever.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget

from gpuaug.backends import triton as backend
from gpuaug.kernels.triton import launch

from .translate import parameters_of, translate

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / ".pytest_cache" / "kept" / "PTX"
COMPILER = shutil.which("g++")
OPTIONS = ["-std=c++17", "-fwrapv", "-ffp-contract=off", "-march=native", "-U_FORTIFY_SOURCE", "-fPIC", "-w"]
TARGET = GPUTarget("cuda", 90, 32)
COMPILE, POINTER = launch.Kernel.compile, launch.pointer
SLOT, MIDDLE = 40, 1 << 39  # runtime.cpp's
ELEMENTS = {"*u8": 1, "*fp16": 2, "*bf16": 2, "*i32": 4, "*fp32": 4, "*i64": 4}  # bytes that are touched together


class Fault(RuntimeError):
    """What a kernel does wrong."""


class Storage(ctypes.Structure):
    """`Storage` of memory.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("written", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("element", ctypes.c_uint64),
    ]


class Launch(ctypes.Structure):
    """`Launch` of runtime.cpp."""

    _fields_ = [
        ("parameters", ctypes.c_char_p),
        ("grid", ctypes.c_uint32 * 3),
        ("threads", ctypes.c_uint32),
        ("storages", ctypes.POINTER(Storage)),
        *((name, ctypes.c_uint32) for name in ("n_storages", "seed", "yields", "resident", "ulps", "traces")),
        ("weight", ctypes.c_uint64),
        ("fault", ctypes.c_char * 1024),
    ]


@dataclass(frozen=True)
class Schedule:
    """In which order threads and blocks run.

    Attributes:
        seed: of the random order, another one in each launch; 0 for the order of their numbers.
        yields: of 1,000 accesses to memory, those before which other threads have their turn.
        resident: blocks that run at a time.
    """

    seed: int = 0
    yields: int = 0
    resident: int = 1


ORDERLY = Schedule()


def built(name: str, source: Path | str, *flags: str | Path) -> Path:
    """A file that g++ made of C++ (a file, or its text), kept."""
    path = KEPT / name
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            if isinstance(source, str):
                text, source = source, Path(folder) / "kernel.cpp"
                source.write_text(text)
            made = Path(folder) / name
            subprocess.run([COMPILER, *OPTIONS, "-I", HERE, "-o", made, source, *flags], check=True)
            os.replace(made, path)
    return path


@functools.cache
def runtime() -> tuple[str, Path]:
    """What all kernels are linked with: a digest of what makes it, and the object file."""
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp"), HERE / "translate.py"]):
        digest.update(path.read_bytes())
    key = digest.hexdigest()[:16]
    return key, built(f"runtime-{key}.o", HERE / "runtime.cpp", "-O2", "-c")


@functools.cache
def library(ptx: str, shared: int) -> ctypes.CDLL:
    """A kernel's library; `shared`: its bytes of shared memory."""
    key, linked = runtime()
    name = hashlib.sha256(f"{key} {shared} {ptx}".encode()).hexdigest()[:24] + ".so"
    return ctypes.CDLL(str(built(name, translate(ptx, shared), linked, "-O1", "-shared")))


@functools.cache
def compiled(kernel: launch.Kernel) -> object:
    """What Triton makes of a kernel for sm_90."""
    return COMPILE(kernel, TARGET)


@dataclass
class Emulation(TorchDispatchMode):
    """What the launches have in common; as a mode of torch it sees which memory nothing has written.

    Attributes:
        schedule: in which order threads and blocks run.
        ulps: how far the results of approximate instructions may be from the nearest, in units in the last place.
        mutate: makes another PTX of a kernel's name and its PTX, to plant a fault.
        traced: whether `traffic` is wanted; then races are not looked for, which takes the memory.
        weight: weighed instructions that the threads have executed, by kernel.
        launches: how often, by kernel.
        traffic: of each launch of a kernel, (instruction, a warp's requests, lanes, 32-byte sectors).
    """

    schedule: Schedule
    ulps: int = 0
    mutate: Callable[[str, str], str] | None = None
    traced: bool = False
    weight: Counter = field(default_factory=Counter)
    launches: Counter = field(default_factory=Counter)
    traffic: defaultdict[str, list[tuple[str, int, int, int]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self):
        super().__init__()
        self._written: dict[int, torch.Tensor] = {}  # flags of a storage's bytes, by its address
        self._kept: dict[int, torch.Tensor] = {}  # tensors by their storage's address, which none takes over

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        found = function(*arguments, **keywords)
        name = function.overloadpacket.__name__
        if name.startswith(("empty", "new_empty")):
            storage = found.untyped_storage()
            storage.fill_(0xFF)  # NaN
            self._kept[storage.data_ptr()] = found
            self._written[storage.data_ptr()] = torch.zeros(storage.nbytes(), dtype=torch.uint8)
        for i, argument in enumerate(function._schema.arguments):
            value = arguments[i] if i < len(arguments) else keywords.get(argument.name)
            if argument.is_write and isinstance(value, torch.Tensor):
                self._written.pop(value.untyped_storage().data_ptr(), None)
        return found

    def pointer(self, tensor: torch.Tensor, offset: int = 0) -> int:
        """The backend's `pointer`, which notes whose storage it is."""
        self._kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return POINTER(tensor, offset)

    def storage(self, address: int) -> Storage:
        """The storage that an address lies in, without a name and the size of an element."""
        base = max((base for base in self._kept if base <= address), default=0)
        size = self._kept[base].untyped_storage().nbytes() if base else 0
        if not base or address > base + size:
            raise Fault(f"{address:#x} is no tensor's address that was asked for in this emulation")
        flags = self._written.get(base)
        return Storage(base, size, None if flags is None else flags.data_ptr())


class Emulated:
    """Stands for a compiled kernel."""

    def __init__(self, kernel: launch.Kernel, emulation: Emulation):
        self.kernel, self.emulation = kernel, emulation
        made = compiled(kernel)
        ptx = made.asm["ptx"]
        if emulation.mutate is not None:
            ptx = emulation.mutate(kernel.name, ptx)
        self.library = library(ptx, made.metadata.shared)
        self.offsets = list(parameters_of(ptx).values())
        self.threads = 32 * made.metadata.num_warps

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        return functools.partial(self.launch, grid)

    def launch(self, grid: tuple[int, int, int], *arguments) -> None:
        """Run a grid of blocks; the constants at the end of the arguments are compiled in."""
        emulation, schedule, name = self.emulation, self.emulation.schedule, self.kernel.name
        parameters, storages = self.lay_out(arguments)
        emulation.launches[name] += 1
        asked = Launch(parameters, grid, self.threads, storages, len(storages), schedule.seed, schedule.yields)
        asked.seed *= sum(emulation.launches.values())
        asked.resident, asked.ulps, asked.traces = schedule.resident, emulation.ulps, emulation.traced
        self.library.run(ctypes.byref(asked))
        emulation.weight[name] += asked.weight
        if asked.fault:
            raise Fault(f"{name}: {asked.fault.decode()}")
        if emulation.traced:
            emulation.traffic[name] += self.traffic()

    def lay_out(self, arguments: tuple) -> tuple[bytes, ctypes.Array]:
        """The parameters' bytes, and the storages that the addresses among them lie in."""
        parameters = bytearray(self.offsets[-1] + 8)
        storages: dict[int, Storage] = {}
        for (name, kind), value, offset in zip(self.kernel.types, arguments, self.offsets, strict=False):
            if kind[0] != "*":
                struct.pack_into({"i32": "<i", "i64": "<q"}[kind], parameters, offset, value)
                continue
            if value == 0:  # an empty tensor's
                continue
            found = self.emulation.storage(value)
            found = storages.setdefault(found.data, found)
            found.name = b" and ".join(filter(None, (found.name, name.encode())))
            found.element = min(found.element or 16, ELEMENTS[kind])
            address = (list(storages).index(found.data) << SLOT) + MIDDLE + value - found.data
            if name in self.kernel.aligned and address % 16:
                raise Fault(f"{self.kernel.name}: {name} is compiled as a multiple of 16 and is none")
            struct.pack_into("<Q", parameters, offset, address)
        return bytes(parameters), (Storage * len(storages))(*storages.values())

    def traffic(self) -> list[tuple[str, int, int, int]]:
        """Of the last launch, by instruction."""
        n = self.library.traffic(None)
        rows = (ctypes.c_uint64 * 4 * n)()
        self.library.traffic(rows)
        names = (ctypes.c_char_p * (max((row[0] for row in rows), default=0) + 1)).in_dll(self.library, "sites")
        return [(names[site].decode(), requests, lanes, sectors) for site, requests, lanes, sectors in rows]


@contextmanager
def emulated(schedule: Schedule = ORDERLY, **keywords) -> Iterator[Emulation]:
    """The triton backend takes CPU tensors and runs their launches here. Keywords: those of `Emulation`."""
    emulation = Emulation(schedule, **keywords)
    launch.launch.cache_clear()
    try:
        with (
            mock.patch.object(launch.Kernel, "compile", lambda kernel, target: Emulated(kernel, emulation)),
            mock.patch.object(launch, "current_target", lambda: TARGET),
            mock.patch.object(backend, "supports", lambda program, images: None),
            mock.patch.object(backend, "pointer", emulation.pointer),
            mock.patch.object(launch, "pointer", emulation.pointer),
            emulation,
        ):
            yield emulation
    finally:
        launch.launch.cache_clear()
