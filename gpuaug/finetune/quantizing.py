"""A fine-tuned classifier in whole numbers of eight bits: static quantisation by torchao, in PyTorch 2's export way.

Weights get a scale a channel; activations one a tensor, from what they are on training images. What comes out is a run
like any other, whose weights file has the network's steps as data (:mod:`gpuaug.finetune.programs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from gpuaug.data import Loader, Source

from . import beginning, combined, fast, parents, runs, saved, sizes, testing
from .programs import Program
from .saved import Classifier
from .saved_int8 import TOLD, Int8
from .screen import hushed
from .sizes import Size

IMAGES, BATCH = 256, 16  # by which activations are scaled


@dataclass(frozen=True)
class Quantized:
    """What was quantised.

    Attributes:
        run: the folder of the new run. rows: the parent, and the new one; the parent compiled, too, where speed was
            measured. slow: why int8 is not faster, or was not timed; "" where it is.
    """

    run: Path
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
    """Quantise the model of a run of the task classify, into a new run: OUT/NNN-...-int8, which loads, predicts, is
    evaluated, exported and compared as any; and smaller.json in it, what it is worth and costs beside its parent.

    Args:
        run: its folder, or its name or number in ``out``, where the new one is made, too.
        images: of the training part, by which activations are scaled.
        speed: compile both and measure images a second on the CPU, which takes a minute or more.
        say: gets a line of each step. given: what the run was given in Python: parts, augment, loss, metrics.

    Raises:
        ValueError: there is no such run, or it cannot be quantised. ModuleNotFoundError: the extra
            ``gpuaug[quantize]`` is not installed.
    """
    fast.needed("quantize")
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    found = runs.find(out, run)
    weights, given = parents.check(found, given, "quantize"), {k: v for k, v in given.items() if v is not None}
    parent = saved.opened(weights, device="cpu")
    source = parents.images_of(found, parent, given, images)
    say(f"scaling  activations, on {len(source):,} training images")
    with hushed():
        own = converted(parent, source)
    own.about = replace(own.about, details={TOLD: {"of": found.name, "images": len(source)}})
    told = [f"activations scaled on {len(source):,} training images"]
    say("testing  on the test images")
    made = left(found, weights, parent, own, told, given.get("parts"), out)
    accuracies = [found.event("after")["test_accuracy"], runs.Run(made).event("after")["test_accuracy"]]
    rates, slow = measured(parent, own, say) if speed else ([None] * 3, "it was not timed")
    rows = beside(parent, own, accuracies, rates)
    sizes.write(runs.Run(made), "quantize", found.name, rows, images=len(source), slow=slow)
    return Quantized(made, rows, slow)


def left(run: runs.Run, weights: Path, parent: Classifier, own: Int8, told: list[str], parts, out: str | Path) -> Path:
    """A new folder of it, tested as its parent was."""
    member = combined.Member(run, weights, parent, beginning.digest(weights))
    name = f"{own.about.model.rpartition('/')[2]}-{run.resolved['data']['name']}-int8"
    return combined.write([member], own, out, name, [member.record()], told, parts=parts).folder


def beside(parent: Classifier, own: Int8, accuracies: list[float], rates: list[float | None]) -> list[Size]:
    """The table's rows."""
    counted = sizes.flops_of(parent.model, parent.shape), sizes.parameters_of(parent.model)
    nbytes = [one.path.stat().st_size for one in (parent, own)]
    rows = [Size("float32", accuracies[0], *counted, nbytes[0], rates[0])]
    if rates[1] is not None:
        rows.append(Size("compiled", accuracies[0], *counted, nbytes[0], rates[1]))
    return [*rows, Size("int8", accuracies[1], *counted, nbytes[1], rates[2])]


# --- the program ------------------------------------------------------------------------------------------------------
def converted(model: Classifier, source: Source) -> Int8:
    """The model in int8, scaled by what it makes of images. Raises ValueError for one that torchao cannot follow."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    try:
        with torch.no_grad():
            prepared = prepare_pt2e(traced(model.model, model.shape), quantizer)
            for x in pixels(model, source):
                prepared(x)
            program = convert_pt2e(prepared)
    except Exception as error:  # whatever a model, or torchao in it, raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model.about.model}: torchao cannot quantise it ({reason[:200]})") from error
    return as_saved(program, model)


def as_saved(program: fx.GraphModule, model: Classifier) -> Int8:
    """What torchao has made of a model, as data. Raises ValueError where it found nothing to be done, or it cannot be
    said."""
    if not any(value.dtype == torch.int8 for value in program.state_dict().values()):
        raise ValueError(f"{model.about.model}: torchao finds no layer in it to be quantised")
    try:
        network = Program.of(program)
    except ValueError as error:
        raise ValueError(f"{model.about.model}: it cannot be quantised, as {error}") from error
    return Int8(network, replace(model.about, recipe="int8", details={TOLD: {}}))


def traced(network: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    """What torch.export makes of it, for batches of any size."""
    batch = {0: torch.export.Dim("B", min=1, max=1 << 16)}
    exported = torch.export.export(network, (torch.zeros(2, *shape),), dynamic_shapes=(batch,))
    return exported.module(check_guards=False)


def pixels(model: Classifier, source: Source) -> Iterator[Tensor]:
    """Batches of images as they are in validation."""
    for x, *_ in Loader(source, BATCH, testing.input_of(model).plain(), max_bad=1.0):
        yield x


# --- speed ------------------------------------------------------------------------------------------------------------
def measured(parent: Classifier, own: Int8, say: Callable[[str], Any]) -> tuple[list[float | None], str]:
    """(images a second of the parent, of it compiled, of the new one compiled; None where that cannot be, why it is not
    faster)."""
    if reason := fast.no_compiler():
        return [sizes.speeds([parent.model], parent.shape)[0], None, None], reason
    say("timing   on this CPU; compiling takes a minute or more")
    with hushed():
        rates = sizes.speeds([parent.model, fast.compiled(parent.model), fast.compiled(own.model.graph)], parent.shape)
    return rates, "" if rates[2] > max(rates[:2]) else fast.reason_of_slowness()
