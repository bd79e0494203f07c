"""A fine-tuned classifier in whole numbers of eight bits: static quantisation by torchao, in PyTorch 2's export way.

Weights get a scale a channel; activations one a tensor, from what they are on training images. The program computes in
int8 where torch's Inductor compiles it for an x86 processor, and in floats of the same values elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.data import Loader, Source

from . import parents, runs, saved, sizes, testing
from .saved import Classifier
from .sizes import Size

PROGRAM, FACTS = "int8.pt2", "int8.json"
IMAGES, BATCH = 256, 16  # by which activations are scaled


@dataclass(frozen=True)
class Quantized:
    """What was quantised.

    Attributes:
        path: the program. rows: the parent, and the program; each compiled, too, where speed was measured. slow: why
            int8 is not faster, or was not timed; "" where it is.
    """

    path: Path
    rows: list[Size]
    slow: str


def quantize(
    run: str | Path | int,
    *,
    images: int = IMAGES,
    speed: bool = True,
    out: str | Path = "runs",
    say: Callable[[str], Any] = lambda words: None,
    **given: Any,
) -> Quantized:
    """Quantise the model of a run of the task classify: int8.pt2 in its folder, called as an exported one is, with
    float32 [B, 3, size, size] of 0 to 1; and int8.json, what it is worth and costs beside its parent.

    Args:
        run: its folder, or its name or number in ``out``.
        images: of the training part, by which activations are scaled.
        speed: compile both and measure images a second on the CPU, which takes a minute or more.
        say: gets a line of each step. given: what the run was given in Python: parts, augment, loss, metrics.

    Raises:
        ValueError: there is no such run, or it cannot be quantised. ModuleNotFoundError: the extra
            ``gpuaug[quantize]`` is not installed.
    """
    if importlib.util.find_spec("torchao") is None:
        raise ModuleNotFoundError("quantize needs torchao: pip install 'gpuaug[quantize]'", name="torchao")
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    found = runs.find(out, run)
    model = saved.opened(parents.check(found, given, "quantize"), device="cpu")
    source = parents.images_of(found, model, given, images)
    say(f"scaling  activations, on {len(source):,} training images")
    with quiet():
        program = converted(model, source)
        content = dumped(program, model.shape)
    test = parents.images_of(found, model, given, part="test")
    say(f"testing  on {len(test):,} test images, before and after")
    accuracies = [accuracy(one, test) for one in (model, _as_classifier(program, model))]
    runs.write(found.path(PROGRAM), content)
    nbytes = [model.path.stat().st_size, found.path(PROGRAM).stat().st_size]
    rates, slow = measured(model, program, say) if speed else ([None] * 3, "it was not timed")
    counted = sizes.flops_of(model.model, model.shape), sizes.parameters_of(model.model)
    rows = [Size("float32", accuracies[0], *counted, nbytes[0], rates[0])]
    if rates[1] is not None:
        rows.append(Size("compiled", accuracies[0], *counted, nbytes[0], rates[1]))
    rows.append(Size("int8", accuracies[1], *counted, nbytes[1], rates[2]))
    facts = {"made_by": "quantize", "images": len(source), "threads": torch.get_num_threads(), "slow": slow}
    found.write_json(FACTS, facts | {"rows": [asdict(row) for row in rows]})
    return Quantized(found.path(PROGRAM), rows, slow)


def load(path: str | Path, fast: bool = True) -> Callable[[Tensor], Tensor]:
    """A program that :func:`quantize` wrote: logits [B, K] of images float32 [B, 3, size, size] of 0 to 1. ``fast``:
    compiled at its first call, which needs a C++ compiler; else in floats of the same values."""
    importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")  # which makes its ops known
    program = torch.export.load(path).module()
    return compiled(program) if fast else program


# --- the program ------------------------------------------------------------------------------------------------------
def converted(model: Classifier, source: Source) -> nn.Module:
    """The model in int8, scaled by what it makes of images. Raises ValueError for one that torchao cannot follow."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    try:
        with torch.no_grad():
            prepared = prepare_pt2e(exported(model, model.shape).module(), quantizer)
            for x in pixels(model, source):
                prepared(x)
            program = convert_pt2e(prepared)
    except Exception as error:  # whatever a model, or torchao in it, raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model.about.model}: torchao cannot quantise it ({reason[:200]})") from error
    used = {node.target for node in program.graph.nodes if node.op == "get_attr"}
    if not any(value.dtype == torch.int8 for value in program.state_dict().values()):
        raise ValueError(f"{model.about.model}: torchao finds no layer in it to be quantised")
    for name in [name for name, _ in program.named_parameters() if name not in used]:
        place, _, last = name.rpartition(".")  # the floats of what is int8 now
        delattr(program.get_submodule(place), last)
    return program


def exported(model: nn.Module, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """A program of batches of any size."""
    batch = {0: torch.export.Dim("B", min=1, max=1 << 16)}
    return torch.export.export(model, (torch.zeros(2, *shape),), dynamic_shapes=(batch,))


def dumped(program: nn.Module, shape: tuple[int, ...]) -> bytes:
    """As a .pt2 file."""
    buffer = io.BytesIO()
    torch.export.save(exported(program, shape), buffer)
    return buffer.getvalue()


def pixels(model: Classifier, source: Source) -> Iterator[Tensor]:
    """Batches of images as they are in validation, but of 0 to 1: the program normalises them."""
    plain = ga.Compose(testing.input_of(model).plain().transforms[:-1])
    for x, *_ in Loader(source, BATCH, plain, max_bad=1.0):
        yield x.contiguous()


class _Normalised(nn.Module):
    """A program of images of 0 to 1, called with normalised ones."""

    def __init__(self, program: nn.Module, model: Classifier):
        super().__init__()
        self.call, self.mean, self.std = (
            (program,),
            model.mean,
            model.std,
        )  # no submodule: it cannot be put in eval mode

    def forward(self, x: Tensor) -> Tensor:
        return self.call[0](x * self.std + self.mean)


def _as_classifier(program: nn.Module, model: Classifier) -> Classifier:
    return Classifier(_Normalised(program, model), model.about)


def accuracy(model: Classifier, source: Source) -> float:
    """0 to 1; of several labels a sample the mean average precision."""
    return testing.evaluate(model, source, batch_size=BATCH).evaluation.score


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch and torchao say of themselves meanwhile."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# --- speed ------------------------------------------------------------------------------------------------------------
def compiled(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """By Inductor, with its weights frozen, so that they are laid out for int8's kernels once."""
    made = torch.compile(model, dynamic=False)

    def call(x: Tensor) -> Tensor:
        with torch.no_grad(), torch._inductor.config.patch(freezing=True):
            return made(x)

    return call


def measured(model: Classifier, program: nn.Module, say: Callable[[str], Any]) -> tuple[list[float | None], str]:
    """(images a second of the model, of it compiled, of the program compiled; None where that cannot be, why it is not
    faster)."""
    if reason := no_compiler():
        return [sizes.speeds([model], model.shape)[0], None, None], reason
    say("timing   on this CPU; compiling takes a minute or more")
    with quiet():
        rates = sizes.speeds([model, compiled(model), compiled(program)], model.shape)
    return rates, "" if rates[2] > max(rates[:2]) else reason_of_slowness()


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
