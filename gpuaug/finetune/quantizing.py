"""A fine-tuned classifier in whole numbers of eight bits: static quantisation by torchao, in PyTorch 2's export way.

Weights get a scale a channel; activations one a tensor, from what they are on training images. What comes out is a run
like any other, whose weights file has the network's steps as data (:mod:`gpuaug.finetune.programs`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors
from torch import Tensor, fx, nn

from gpuaug.data import Loader, Parts, Source

from . import beginning, combined, fast, parents, runs, saved, sizes, testing, unused
from .config import Config
from .programs import Program
from .qat import learn, settled
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
            measured; before one that learned rounded, what it would be without. slow: why int8 is not faster, or was
            not timed; "" where it is.
    """

    run: Path
    rows: list[Size]
    slow: str


def quantize(
    run: str | Path | int,
    *,
    images: int = IMAGES,
    qat: int | None = None,
    lr: float | None = None,
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
        qat: epochs in which the network learns, rounded to int8, before it is quantised. lr: their highest rate; by
            default a tenth of the recipe finetune's.
        speed: compile both and measure images a second on the CPU, which takes a minute or more.
        say: gets a line of each step. given: what the run was given in Python: parts, augment, loss, metrics.

    Raises:
        ValueError: there is no such run, or it cannot be quantised. ModuleNotFoundError: the extra
            ``gpuaug[quantize]`` is not installed.
    """
    fast.needed("quantize")
    asked(images, qat, lr)
    found = runs.find(out, run)
    weights, given = parents.check(found, given, "quantize"), {k: v for k, v in given.items() if v is not None}
    parent = saved.opened(weights, device="cpu")
    config = None if qat is None else settled(found, parent.about, qat, lr, given)
    source = parents.images_of(found, parent, given, images)
    say(f"scaling  activations, on {len(source):,} training images")
    with hushed():
        own = converted(parent, source)
    told, details = (
        [f"activations scaled on {len(source):,} training images"],
        {"of": found.name, "images": len(source)},
    )
    before = []
    if config is not None:
        before.append(untrained(found, parent, own, given.get("parts")))
        say(f"learning {counted(qat)}, rounded to int8")
        with hushed():
            own = learned(parent, source, config, given)
        told.append(f"learned for {counted(qat)}, rounded to int8, at a rate of {config.lr:g}")
        details |= {"epochs": qat, "lr": config.lr}
    own.about = replace(own.about, details={TOLD: details})
    say("testing  on the test images")
    made = left(found, weights, parent, own, told, given.get("parts"), out)
    accuracies = [found.event("after")["test_accuracy"], runs.Run(made).event("after")["test_accuracy"]]
    rates, slow = measured(parent, own, say) if speed else ([None] * 3, "it was not timed")
    *floats, last = beside(parent, own, accuracies, rates)
    rows = [*floats, *before, replace(last, name="int8 QAT" if before else "int8")]
    more = {name: value for name, value in details.items() if name != "of"}
    sizes.write(runs.Run(made), "quantize", found.name, rows, **more, slow=slow)
    return Quantized(made, rows, slow)


def asked(images: int, qat: int | None, lr: float | None) -> None:
    """Raises ValueError for what cannot be."""
    for name, value in (("images", images), ("qat", qat)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if lr is not None and qat is None:
        unused.refuse("lr", "no qat", "nothing learns")


def counted(epochs: int) -> str:
    return f"{epochs} epoch{'s' * (epochs > 1)}"


def untrained(run: runs.Run, parent: Classifier, own: Int8, parts: Parts | None) -> Size:
    """The table's row of what is quantised without learning."""
    source, _ = own.matched(combined.part_of(run, "test", parts))
    scores = combined.measured(own.tested(source, **combined.how_of(run, own)), own)
    state = {name: value.contiguous() for name, value in own.model.state_dict().items()}
    flops = sizes.flops_of(parent.model, parent.shape)
    return Size("int8", scores["test_accuracy"], flops, None, len(safetensors(state, own.about.dumped())), None)


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
    return [*rows, Size("int8", accuracies[1], counted[0], None, nbytes[1], rates[2])]


# --- the program ------------------------------------------------------------------------------------------------------
def converted(model: Classifier, source: Source) -> Int8:
    """The model in int8, scaled by what it makes of images. Raises ValueError for one that torchao cannot follow."""
    return whole(prepared(model, source), model)


def learned(model: Classifier, source: Source, config: Config, given: Mapping[str, Any]) -> Int8:
    """As :func:`converted`, after it has learned as ``config`` and what was ``given`` in Python say."""
    program = prepared(model, source, rounded=True)
    learn(program, model, config, given)
    return whole(program, model)


def prepared(model: Classifier, source: Source, rounded: bool = False) -> fx.GraphModule:
    """The model with the ranges of what it makes of images; ``rounded``: it can learn, and rounds to int8 within them.
    Batch norms are folded into what is before them: torchao's prepare_qat_pt2e, which leaves them as they are, took
    five minutes for a ResNet-20."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=rounded))
    with followed(model), torch.no_grad():
        program = prepare_pt2e(traced(model.model, model.shape), quantizer)
        for x in pixels(model, source):
            program(x)
    return program


def whole(program: fx.GraphModule, model: Classifier) -> Int8:
    """The model in int8, of what was prepared."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with followed(model), torch.no_grad():
        program = convert_pt2e(program)
    return as_saved(program, model)


@contextlib.contextmanager
def followed(model: Classifier) -> Iterator[None]:
    """Raises ValueError, of one line, for whatever a model, or torchao in it, raises."""
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model.about.model}: torchao cannot quantise it ({reason[:200]})") from error


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
    try:
        with hushed():
            calls = [parent.model, fast.compiled(parent.model), fast.compiled(own.model.graph)]
            rates = sizes.speeds(calls, parent.shape)
    except ValueError as error:
        return [sizes.speeds([parent.model], parent.shape)[0], None, None], str(error)
    return rates, "" if rates[2] > max(rates[:2]) else fast.reason_of_slowness()
