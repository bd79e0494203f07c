"""Networks compiled by Inductor for the CPU, whose weights are frozen: so int8 is fast, and floats are faster."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PASSES = "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer"  # teaches Inductor int8's kernels


def compiled(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """With the weights as they are now. Its first call compiles, for batches of that call's size [B, C, H, W]; other
    ones go through it in such batches, the last one filled up.

    Raises ValueError where nothing can be compiled, at the first call where the compiler fails; ModuleNotFoundError
    without torchao."""
    needed("compiling int8")
    if reason := no_compiler():
        raise ValueError(f"compile: {reason}")
    importlib.import_module(PASSES)
    made, sizes = torch.compile(model, dynamic=False), []

    def call(x: Tensor) -> Tensor:
        sizes.append(len(x))
        size, found = sizes[0], []
        del sizes[1:]
        with torch.no_grad(), torch._inductor.config.patch(freezing=True):
            for part in x.contiguous(memory_format=torch.channels_last).split(size):
                lacking = size - len(part)
                whole = torch.cat([part, part[:1].expand(lacking, *part.shape[1:])]) if lacking else part
                with failures_told():
                    found.append(made(whole.contiguous(memory_format=torch.channels_last))[: len(part)])
        return found[0] if len(found) == 1 else torch.cat(found)

    return call


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Raises ValueError where Inductor, or the compiler that it calls, fails."""
    from torch._inductor.exc import InductorError

    try:
        yield
    except InductorError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"compile: the C++ compiler failed ({reason[:200]}); leave it out, or mend it") from error


def needed(what: str) -> None:
    """Raises ModuleNotFoundError without torchao."""
    if importlib.util.find_spec("torchao") is None:
        raise ModuleNotFoundError(f"{what} needs torchao: pip install 'gpuaug[quantize]'", name="torchao")


def no_compiler() -> str:
    """Why nothing can be compiled here; "" where it can."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (RuntimeError, exc.InvalidCxxCompiler):
        return "int8 is fast where torch.compile runs, and that needs a C++ compiler, such as g++: none was found"
    return ""


def reason_of_slowness() -> str:
    """What this processor lacks, if it lacks something."""
    if not torch.cpu._is_vnni_supported():
        return "the processor has no VNNI instructions, which multiply int8"
    return "it has VNNI instructions for int8, so the conversions around the layers probably cost more than these save"
