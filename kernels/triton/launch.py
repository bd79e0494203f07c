"""Compiled kernels, kept: each is compiled once for its constants and a device, and launched by position.

The signature is fixed by hand, so that no size, stride, alignment or value of an argument ever asks for another
compilation.
"""

import functools
from dataclasses import dataclass

import torch
import triton
from triton.compiler import ASTSource, CompiledKernel

from .dialect import INTERPRETED

TYPES = {
    torch.uint8: "*u8",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
}
MOST_THREADS = 256  # the smallest tile's pixels


@dataclass(frozen=True)
class Kernel:
    """A kernel and all that its compilation depends on.

    Attributes:
        function: bound by `dialect`; its constants are its last parameters.
        types: Triton type names of its arguments, in order.
        constants: the compile-time parameters, in order.
        warps: of a program, or fewer where that would be more threads than MOST_THREADS.
        options: of the compiler (`enable_fp_fusion`, `maxnreg`).
        aligned: arguments that are multiples of 16.
    """

    function: object
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, object], ...]
    warps: int
    options: tuple[tuple[str, object], ...]
    aligned: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.function.__name__

    def compile(self, target):
        """The compiled kernel for a `triton.backends.compiler.GPUTarget`; needs no GPU."""
        signature = dict(self.types) | {name: "constexpr" for name, _ in self.constants}
        if list(signature) != list(self.function.arg_names):
            raise TypeError(f"{self.name} takes {self.function.arg_names}, got {list(signature)}")
        options = {"num_warps": min(self.warps, MOST_THREADS // target.warp_size), **dict(self.options)}
        attributes = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if name in self.aligned}
        return triton.compile(ASTSource(self.function, signature, dict(self.constants), attributes), target, options)


def current_target():
    """The current device, as the compiler knows it."""
    return triton.runtime.driver.active.get_current_target()


def pointer(tensor: torch.Tensor, offset: int = 0):
    """What a launch takes for a tensor from its element `offset` on: an address, which needs no question to the driver;
    the interpreter takes tensors."""
    if INTERPRETED:
        return tensor.flatten()[offset:] if offset else tensor
    return tensor.data_ptr() + offset * tensor.element_size()


def _hooked(hook) -> bool:
    """Whether somebody, a profiler, listens to Triton's launches."""
    return hook is not None and bool(getattr(hook, "calls", True))


class Launch:
    """A kernel on one device, compiled at its first launch.

    Args:
        kernel: what to compile.
        device: its number.
    """

    def __init__(self, kernel: Kernel, device: int | None):
        self.kernel, self.device, self.compiled = kernel, device, None
        self.last = tuple(value for _, value in kernel.constants)

    def __call__(self, grid: tuple[int, int, int], *arguments) -> None:
        """Launch a grid of programs on the current device and stream; pointers are what `pointer` makes of tensors."""
        if self.compiled is None:
            self._compile()
        hooks = triton.knobs.runtime
        if self.run is None or _hooked(hooks.launch_enter_hook) or _hooked(hooks.launch_exit_hook):
            self.compiled[grid](*arguments, *self.last)
        else:
            self.run(*grid, self.stream(self.device), *self.loaded, None, None, None, *arguments, *self.last)

    def _compile(self) -> None:
        compiled = self.kernel.function if INTERPRETED else self.kernel.compile(current_target())
        self.run = None
        if isinstance(compiled, CompiledKernel):  # what its own launch looks up again each time
            self.run, self.stream = compiled.run, triton.runtime.driver.active.get_current_stream
            self.loaded = compiled.function, compiled.packed_metadata
        self.compiled = compiled


@functools.cache
def launch(kernel: Kernel, device: int | None) -> Launch:
    """The one `Launch` of a kernel on device number `device`."""
    return Launch(kernel, device)
