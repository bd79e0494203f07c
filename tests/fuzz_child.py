"""Run cases of `fuzz_explicit` one after another, in a process of their own: a fault may end it.

    python tests/fuzz_child.py BACKEND START STOP

prints a line of JSON before each case and one behind it. BACKEND is cpu or kornia. With one number the case itself is
shown, too.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import linecache
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module

import torch
from fuzz_explicit import NAN, Case, Draw, case, strides_of
from guarded import WHOLE, Guarded
from torch import Tensor

import gpuaug as ga

HANGS_AFTER = 300  # seconds; the first case may compile for a minute
MOST_MEMORY = 6 << 30  # bytes
FILLERS = (0xFF, 0x3C)  # NaN, and about 0.01, in any floating-point type
OWN = (ValueError, TypeError, RuntimeError)


class Fault(AssertionError):
    """What must not happen."""


def _stir() -> None:
    """Leave NaN in the memory that the cpu backend uses again."""
    ga.functional.affine(torch.full((1, 3, 24, 70), NAN), 10.0, (1, 1), 0.7, 5.0, "bilinear", backend="cpu")


@contextmanager
def _guarded_outputs(backend: str, behind: bool, filler: int):
    """Have the backend allocate its outputs between guard pages; yields the list of them."""
    module, made = import_module(f"gpuaug.backends.{backend}"), []
    allocate = module.allocate

    def guarded(shape, dtype, device, memory_format, *rest):
        like = torch.empty(shape, dtype=dtype, device="meta", memory_format=memory_format)
        made.append(Guarded(shape, like.stride(), dtype, behind=behind, filler=filler))
        return made[-1].image

    module.allocate = guarded
    try:
        yield made
    finally:
        module.allocate = allocate


def _table(one: Case, drawn: Tensor) -> Tensor:
    """The drawn table with the case's changes."""
    table = drawn.to(one.table_dtype)
    for row, column, value in one.changes if table.numel() else ():
        table[row % table.shape[0], column % table.shape[1]] = value
    return table


def call_of(one: Case, backend: str) -> Callable[[Tensor, bool, int], tuple[Tensor, Guarded | None]]:
    """What runs the case: (images, behind, filler) -> the result and the memory of its `out=`."""
    if not one.pipeline:
        function = getattr(ga.functional, one.name)
        return lambda images, behind, filler: (function(images, **one.arguments, backend=backend), None)
    pipeline = ga.Compose(list(one.pipeline), seed=1, backend=backend, memory_format=one.memory_format)

    def run(images: Tensor, behind: bool, filler: int):
        params = pipeline.sample(images, ids=range(len(images) if images.dim() == 4 else 1), epoch=0)
        params = dataclasses.replace(params, table=_table(one, params.table))
        if not one.out_layout:
            return pipeline.apply(images, params), None
        program = params.program
        shape = (images.shape[0] if images.dim() == 4 else 1, program.out_channels, *program.out_size)
        strides = strides_of(Draw(one.number), one.out_layout, shape)
        skip = 4 - images.dim()
        out = Guarded(shape[skip:], strides[skip:], program.out_dtype, behind=behind, filler=filler)
        return pipeline.apply(images, params, out=out.image), out

    return run


def own_error(error: Exception) -> bool:
    """Whether it is one line, of a kind that a caller expects, raised by a statement of this package."""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    line = linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno).strip()
    package = last.tb_frame.f_globals["__name__"].partition(".")[0]
    return type(error) in OWN and package == "gpuaug" and line.startswith("raise ") and "\n" not in str(error)


def once(one: Case, run: Callable, backend: str, turn: int) -> tuple[Tensor | None, str]:
    """One call of the case: a copy of its result, or the error that it raised."""
    behind, filler = one.behind == (turn == 0), FILLERS[turn]
    given = Guarded(one.pixels.shape, one.strides, one.pixels.dtype, behind=behind, filler=filler)
    given.fill(one.pixels)
    before = given.bytes()
    torch.manual_seed(one.number)
    result, told = None, ""
    with _guarded_outputs(backend, behind, filler) as made:
        try:
            result, out = run(given.image, behind, filler)
        except Exception as error:
            if not own_error(error):
                raise
            out, told = None, f"{type(error).__name__}: {error}"
        else:
            made += [] if out is None else [out]
            if not made:
                raise Fault("the output is not what the backend allocated")
            if not any(result.data_ptr() == m.image.data_ptr() for m in made):
                raise Fault("the output is other memory than what was allocated for it")
            result = result.detach().clone()
        if not torch.equal(given.bytes(), before):
            raise Fault("the input, or memory beside it, was written")
        if any(m.stray() for m in made):
            raise Fault("memory beside the output was written")
    return result, told


def raw(tensor: Tensor) -> Tensor:
    """The bits of a tensor."""
    return tensor.contiguous().view(WHOLE[tensor.dtype.itemsize])


def examine(one: Case, run: Callable, backend: str) -> dict:
    """Run the case twice, in other memory each time; its outcome.

    Raises:
        Fault, or what the case raised: what must not happen.
    """
    torch.set_num_threads(one.threads)
    first, told = once(one, run, backend, 0)
    if backend == "cpu":
        _stir()
    second, again = once(one, run, backend, 1)
    if told != again:
        raise Fault(f"it raised {told or 'nothing'!r}, then {again or 'nothing'!r}")
    if first is None:
        return {"raised": told}
    if first.shape != second.shape or first.dtype != second.dtype:
        raise Fault(f"{first.shape} {first.dtype}, then {second.shape} {second.dtype}")
    differ = raw(first) != raw(second)
    if differ.any():
        at = differ.nonzero()[0].tolist()
        values = f"{first[tuple(at)]} and {second[tuple(at)]}"
        raise Fault(f"{int(differ.sum())} values were not written, or differ between two calls; at {at}: {values}")
    if one.tame and first.isnan().any():
        raise Fault(f"{int(first.isnan().sum())} NaN from finite numbers")
    return {"shape": list(first.shape), "dtype": str(first.dtype)}


def outcome(number: int, backend: str) -> dict:
    """`examine`, with a fault as its line."""
    one = case(number)
    try:
        return examine(one, call_of(one, backend), backend)
    except (Exception, Fault) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        return {"fault": f"{one.name}: {type(error).__name__} at {place}: {str(error)[:400]}"}


def main(backend: str, start: int, stop: int) -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(start, stop):
        print(json.dumps({"begins": number}), flush=True)
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        found = outcome(number, backend)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"number": number, **found}), flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    numbers = [int(word) for word in words[1:]]
    if len(numbers) == 1:
        print(case(numbers[0]))
        numbers.append(numbers[0] + 1)
    main(words[0], *numbers)
