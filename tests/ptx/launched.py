"""Launches through Triton's own launcher, on the driver of `driver.c`: prints as JSON what was asked for and what the
driver was told. A process of its own: it needs libcuda.so.1 on LD_LIBRARY_PATH, and makes Triton believe in a GPU."""

from __future__ import annotations

import ctypes
import json
import re
from unittest import mock

import torch
from triton.backends.nvidia.driver import CudaDriver
from triton.runtime import driver

import gpuaug as ga
from gpuaug.backends import triton as backend
from gpuaug.kernels.triton import launch

MOST = 64
BYTES = {"u64": 8, "u32": 4}
STREAM = 5


class Noted(ctypes.Structure):
    """`Launch` of driver.c."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("values", ctypes.c_uint64 * MOST),
    ]


def describe(cuda: ctypes.CDLL, compiled) -> list[int]:
    """Tell the driver the sizes of a kernel's parameters, which are returned."""
    head = compiled.asm["ptx"].partition(".visible .entry")[2].partition("{")[0]
    sizes = [BYTES[kind] for kind in re.findall(r"\.param \.(\w+)", head)]
    cuda.describe(compiled.metadata.name.encode(), len(sizes), (ctypes.c_int * len(sizes))(*sizes))
    return sizes


def calls() -> None:
    """Draws and writes of both layouts, with ids and counted, and into an output that takes no quads."""
    ops = [ga.RandomResizedCrop(8), ga.ColorJitter(0.4, 0.4), ga.ToDtype(torch.bfloat16, scale=True)]
    images = torch.zeros((3, 3, 16, 20), dtype=torch.uint8)
    for layout in (torch.contiguous_format, torch.channels_last):
        augment = ga.Compose(ops, seed=0, backend="triton", memory_format=layout)
        augment(images, ids=range(3), epoch=3)
        augment(images[..., 2:])
        params = augment.sample(images, ids=[1, 2**40, 3], epoch=2**32 - 1)
        augment.apply(images, params, out=torch.empty(577, dtype=torch.bfloat16)[1:].view(3, 3, 8, 8))


def main() -> None:
    cuda = ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
    noted = (Noted * 256).in_dll(cuda, "launches")
    count, questions = (ctypes.c_int.in_dll(cuda, name) for name in ("launched", "asked_about_pointers"))
    active = CudaDriver()
    active.get_current_device, active.get_current_stream = lambda: 0, lambda device=None: STREAM
    active.get_device_capability = lambda device: (9, 0)
    driver.set_active(active)
    found, original = [], launch.Launch.__call__

    def call(self: launch.Launch, grid: tuple[int, int, int], *arguments: int) -> None:
        if self.compiled is None:
            self._compile()
        sizes, before = describe(cuda, self.compiled), count.value
        original(self, grid, *arguments)
        told = noted[before]
        whole = zip(arguments, sizes, strict=False)
        aligned = [
            value for (name, _), value in zip(self.kernel.types, arguments, strict=True) if name in self.kernel.aligned
        ]
        found.append(
            {
                "launches": count.value - before,
                "asked": {
                    "name": self.kernel.name,
                    "grid": list(grid),
                    "block": [32 * self.compiled.metadata.num_warps, 1, 1],
                    "shared": self.compiled.metadata.shared,
                    "stream": STREAM,
                    "values": [value % (1 << 8 * size) for value, size in whole] + [0] * (len(sizes) - len(arguments)),
                },
                "told": {
                    "name": told.name.decode(),
                    "grid": list(told.grid),
                    "block": list(told.block),
                    "shared": told.shared,
                    "stream": told.stream,
                    "values": list(told.values)[: len(sizes)],
                },
                "aligned": aligned,
            }
        )

    with (
        mock.patch.object(launch.Launch, "__call__", call),
        mock.patch.object(backend, "supports", lambda program, images: None),
    ):
        calls()
    print(json.dumps({"launches": found, "questions": questions.value}))


if __name__ == "__main__":
    main()
