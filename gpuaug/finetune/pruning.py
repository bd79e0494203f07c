"""Structured pruning: whole channels of a fine-tuned network go, in steps, and what is left is fine-tuned again.

Which go is decided by torch-pruning: by a first-order estimate of what the loss on training images would change
(Molchanov et al., CVPR 2019), over all layers together, with what depends on a channel. What comes out is a run like
any other, whose weights file says of which shape the network is (:mod:`gpuaug.finetune.shapes`).
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors
from torch import nn
from torch.nn import functional as F

from gpuaug.data import Loader, Source

from . import averaging, models, parents, runs, saved, shapes, sizes, testing
from .config import Config
from .loop import Result, finetune
from .recipes import Recipe
from .sizes import Size

MEASURES: dict[str, Callable[[nn.Module, tuple[int, ...]], int]] = {
    "flops": sizes.flops_of,
    "parameters": lambda model, shape: sizes.parameters_of(model),
}
USUAL = 0.5  # the share that is left, where nothing is said
IMAGES, BATCH = 256, 32  # of the training part, by which channels are judged
AT_A_TIME, MOST = 1 / 64, 0.9  # of all channels, those that go before it is counted again; of a layer's, that may go
TOGETHER = 8  # channels stay in multiples of it, as processors take them: half of Lite0 is 2.2 times as fast, else 2.0


@dataclass(frozen=True)
class Pruned:
    """What was pruned.

    Attributes:
        run: the folder of the new run. result: what its fine-tuning came to. before, after: the parent and the new one.
    """

    run: Path
    result: Result
    before: Size
    after: Size


def prune(
    run: str | Path | int,
    *,
    flops: float | None = None,
    parameters: float | None = None,
    steps: int = 1,
    epochs: int | None = None,
    lr: float | None = None,
    distill: bool = False,
    out: str | Path = "runs",
    say: Callable[[str], Any] = lambda words: None,
    **given: Any,
) -> Pruned:
    """Prune the network of a run of the task classify, and fine-tune it as that run was, into a new run.

    Args:
        run: its folder, or its name or number in ``out``, where the new one is made, too.
        flops, parameters: the share of them that is left, in (0, 1); one of both. By default half of the flops.
        steps: so many times channels go and the network is fine-tuned; the last is the new run.
        epochs: of each fine-tuning; by default half of the run's own. lr: the highest rate; by default the recipe's.
        distill: the fine-tuning also learns from what the parent answers, with the run's distillation options.
        say: gets a line of each step. given: what the run was given in Python: parts, augment, loss, metrics.

    Raises:
        ValueError: there is no such run, or it cannot be pruned, or not so far. ModuleNotFoundError: the extra
            ``gpuaug[prune]`` is not installed.
    """
    tp, (measure, share) = _library(), asked(flops, parameters, steps, epochs)
    found = runs.find(out, run)
    weights, given = parents.check(found, given, "prune"), {k: v for k, v in given.items() if v is not None}
    parent = saved.opened(weights, device="cpu")
    network, about = copy.deepcopy(parent.model), parent.about
    whole, source = MEASURES[measure](network, parent.shape), parents.images_of(found, parent, given, IMAGES)
    config = tuned(found, about, epochs, lr)
    config = replace(config, data=Config.data) if "parts" in given else config  # which has their name
    config = replace(config, teacher=(str(found.folder.resolve()),)) if distill else config
    with tempfile.TemporaryDirectory() as scratch:
        for step in range(1, steps + 1):
            wanted = share ** (step / steps)
            cut(tp, network, parent, source, measure, wanted * whole)
            refresh(network, parent, source)
            left = MEASURES[measure](network, parent.shape) / whole
            say(f"step {step} of {steps}: {left:.0%} of the {measure} left; fine-tuning")
            path, last = Path(scratch) / f"{found.name}-pruned.safetensors", step == steps
            told = {shapes.TOLD: shapes.difference(network, fresh(about))}
            state = {name: value.contiguous() for name, value in network.state_dict().items()}
            path.write_bytes(safetensors(state, replace(about, details=told).dumped()))
            own = replace(config, weights=str(path), out=Path(out), seed=config.seed + step - 1)
            if not last:
                own = replace(own, out=Path(scratch), quiet=True, json=False, robustness=0, keep=0, tensorboard=False)
                own = replace(own, checkpoint_steps=0, keep_done=False)
            result = finetune(own, **given)
            network = saved.opened(result.run / runs.WEIGHTS, device="cpu").model
    return finished(found, parent, result, measure, share)


def asked(flops: float | None, parameters: float | None, steps: int, epochs: int | None) -> tuple[str, float]:
    """(what is counted, the share that is left of it). Raises ValueError for what cannot be."""
    if flops is not None and parameters is not None:
        raise ValueError("flops and parameters cannot be asked for together: leave one out")
    measure, share = (
        ("parameters", parameters) if parameters is not None else ("flops", USUAL if flops is None else flops)
    )
    if not 0 < share < 1:
        raise ValueError(f"{measure} must be in (0, 1), the share that is left; got {share:g}")
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return measure, share


def tuned(run: runs.Run, about: saved.About, epochs: int | None, lr: float | None) -> Config:
    """How a pruned network is fine-tuned: as its run was, but for what is of weights that begin at random, or of a new
    classifier."""
    config, known = run.config, run.resolved
    usual = {name.name: None for name in fields(Recipe) if name.name not in ("name", "batch_size")}
    kept = {} if known["recipe"] == "finetune" else usual
    return replace(
        config, **kept | {
            "model": about.model, "recipe": "finetune", "size": about.size, "head_epochs": None, "freeze": None,
            "augment": known.get("auto", {}).get("chosen", config.augment), "auto_budget": None, "lr": lr,
            "lora": None, "lora_alpha": None, "lora_layers": "all", "feature_augment": "none",
            "epochs": epochs or max(1, known["options"]["epochs"] // 2),
        }
    )  # fmt: skip


def fresh(about: saved.About) -> nn.Module:
    """The network as it is built by its name."""
    return models.build(about.model, len(about.classes), None, about.size)[0]


# --- channels ---------------------------------------------------------------------------------------------------------
def cut(tp: Any, network: nn.Module, parent: saved.Saved, source: Source, measure: str, most: float) -> None:
    """Take channels out of the network, those first that matter least, until it has at most so many flops, or
    parameters. Raises ValueError where it cannot be done."""
    network.eval().requires_grad_(True)
    learn_from(network, parent, source)
    name, example = parent.about.model, torch.zeros(1, *parent.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = tp.pruner.BasePruner(
                network, example, tp.importance.GroupTaylorImportance(), global_pruning=True, pruning_ratio=1.0,
                max_pruning_ratio=MOST, iterative_steps=round(1 / AT_A_TIME), ignored_layers=kept_whole(network),
                round_to=TOGETHER, in_channel_groups={}, out_channel_groups={}, num_heads={},
            )  # fmt: skip
            for _ in range(round(1 / AT_A_TIME)):
                if MEASURES[measure](network, parent.shape) <= most:
                    break
                pruner.step()
        logits = network(example.expand(2, *parent.shape))
    except Exception as error:  # whatever a network, or torch-pruning in it, raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name}: torch-pruning cannot follow it ({reason[:200]}); it is for convolutions") from error
    network.zero_grad(set_to_none=True)
    left = MEASURES[measure](network, parent.shape)
    if logits.shape != (2, len(parent.classes)) or left > most:
        raise ValueError(f"{name}: {left:,} {measure} are the least, {most:,.0f} were wanted; ask for a larger share")


def learn_from(network: nn.Module, parent: saved.Saved, source: Source) -> None:
    """The gradients of the mean loss on images as they are."""
    loss = F.binary_cross_entropy_with_logits if parent.about.several else F.cross_entropy
    network.zero_grad(set_to_none=True)
    for x, labels, *_ in Loader(source, BATCH, testing.input_of(parent).plain(), device=parent.device, max_bad=1.0):
        (loss(network(x), labels) * len(x) / len(source)).backward()


def refresh(network: nn.Module, parent: saved.Saved, source: Source) -> None:
    """Batch norms have the statistics of images as they are: fewer channels come to them than before, and fine-tuning
    may leave them frozen (Li et al., ECCV 2020)."""
    loader = Loader(source, BATCH, testing.input_of(parent).plain(), device=parent.device, max_bad=1.0)
    averaging.refresh_bn(network, loader, averaging.batch_norms(network))


def kept_whole(network: nn.Module) -> list[nn.Module]:
    """Layers whose outputs stay: the classifier's, whose rows are classes; and of the ResNet-20, whose shortcuts add
    channels of zeros, all but the first convolution of each block."""
    found = list(models.heads(network).values())
    if isinstance(network, models.ResNet20):
        found += [
            network.conv1,
            *(module.conv2 for module in network.modules() if isinstance(module, models.BasicBlock)),
        ]
    return found


def _library() -> Any:
    try:
        import torch_pruning
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "prune needs torch_pruning: pip install 'gpuaug[prune]'", name="torch_pruning"
        ) from error
    return torch_pruning


# --- the end ----------------------------------------------------------------------------------------------------------
def finished(run: runs.Run, parent: saved.Saved, result: Result, measure: str, share: float) -> Pruned:
    """Measured beside each other, and told in the new run's folder."""
    own = saved.opened(result.run / runs.WEIGHTS, device="cpu")
    accuracies = run.event("after")["test_accuracy"], result.after
    fast, rows = sizes.speeds([parent, own], parent.shape), []
    for name, model, accuracy, speed in zip(("parent", "pruned"), (parent, own), accuracies, fast, strict=True):
        counted = sizes.flops_of(model.model, model.shape), sizes.parameters_of(model.model)
        rows.append(Size(name, accuracy, *counted, model.path.stat().st_size, speed))
    sizes.write(runs.Run(result.run), "prune", run.name, rows, asked={measure: share})
    return Pruned(result.run, result, *rows)
