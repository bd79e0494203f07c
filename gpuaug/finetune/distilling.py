"""Distillation: a run's model also learns from what others answer (Hinton et al., 2015, arXiv 1503.02531).

Of a batch, augmented and mixed as the student sees it, the loss is (1 - w) times the run's own, and w times T^2 times
the Kullback-Leibler divergence of the student's probabilities from the teachers' mean ones, both at the temperature T;
with features, also w times the mean squared error of a linear map of the student's, which learns too, from theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import beginning, models, runs
from .programs import Program
from .runs import Run
from .saved import Classifier, opened, weights_of
from .saved_ensemble import Renormalise, alone, differ

if TYPE_CHECKING:
    from gpuaug.data import Parts

    from .config import Config
    from .feed import Input

TIMM = "timm's pretrained weights"


class One(nn.Module):
    """A teacher: of a student's input [B, 3, s, s] its logits [B, K], and what it hands to its classifier, [B, D].

    Args:
        model: of images [B, 3, size, size], normalised by its own (mean, std). had: (mean, std) of the student's.
    """

    def __init__(self, model: nn.Module, size: int, wants: tuple, had: tuple):
        super().__init__()
        self.model, self.size, self.own = model, size, Renormalise(had, wants)

    def forward(self, x: Tensor, features: bool = False) -> tuple[Tensor, Tensor | None]:
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        if not features:
            return self.model(self.own(x)), None
        kept = []
        hook = head_of(self.model).register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
        try:
            return self.model(self.own(x)), kept[0]
        finally:
            hook.remove()


class Teacher(nn.Module):
    """The teachers of a run.

    Attributes:
        members: each alone. map: from the student's features to all of theirs, None where these are not asked for.
        soft: whether they answer for the classes of the data; timm's own do not. record: what config.json keeps.
    """

    def __init__(self, members: Sequence[One], config: Config, several: bool, soft: bool, record: list[dict[str, Any]]):
        super().__init__()
        self.members, self.config, self.several, self.soft, self.record = (
            nn.ModuleList(members), config, several, soft, record
        )  # fmt: skip
        self.map: nn.Linear | None = None
        self.kept: list[Tensor] = []  # of the student's features those of the batch under way
        self.hook: Any = None
        self.eval().requires_grad_(False)

    def begin(self, learner: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Before the first epoch: a new map, always the same one, where features are asked for; what learns of it."""
        if not self.config.distill_features:
            return []
        head, wide = head_of(learner), sum(head_of(one.model).in_features for one in self.members)
        with torch.random.fork_rng([]):
            torch.manual_seed(self.config.seed)
            self.map = nn.Linear(head.in_features, wide)
        self.map.to(device)
        kept = self.kept  # a function, as a method would take the teachers along where the learner is copied

        def keep(module: nn.Module, inputs: tuple) -> None:
            if module.training:
                kept[:] = inputs

        if self.hook is not None:
            self.hook.remove()
        self.hook = head.register_forward_pre_hook(keep)
        return list(self.map.parameters())

    def frozen(self) -> contextlib.AbstractContextManager:
        """In which those that are compiled have their weights folded in: they never change."""
        if not self.config.compile:
            return contextlib.nullcontext()
        from torch._inductor import config

        return config.patch(freezing=True)

    def added(self, x: Tensor, outputs: Tensor, loss: Tensor) -> Tensor:
        """The whole loss of a batch, whose own is ``loss``."""
        share, t = self.config.distill_weight, self.config.distill_temperature
        with torch.no_grad(), self.frozen():
            answers = [one(x, self.map is not None) for one in self.members]
            if self.soft:
                logits = torch.stack([made.float() for made, _ in answers]) / t
                wanted = (logits.sigmoid() if self.several else logits.softmax(-1)).mean(0)
        told = soft_loss(outputs.float(), wanted, t, self.several) if self.soft else 0.0
        if self.map is not None:
            features = self.map(self.kept.pop()).float()
            told = told + F.mse_loss(features, torch.cat([made.float() for _, made in answers], 1))
        return (1 - share) * loss + share * told


def soft_loss(logits: Tensor, wanted: Tensor, t: float, several: bool = False) -> Tensor:
    """T^2 times the divergence of the student's probabilities from ``wanted`` ones [B, K], which are of this
    temperature; where a sample may have several labels, of each class's, their mean."""
    if several:
        own = (torch.special.entr(wanted) + torch.special.entr(1 - wanted)).mean()
        return t * t * (F.binary_cross_entropy_with_logits(logits / t, wanted) - own)
    return t * t * F.kl_div((logits / t).log_softmax(1), wanted, reduction="batchmean")


def head_of(model: nn.Module) -> nn.Linear:
    """A model's classifier. Raises ValueError where it is not one linear layer."""
    if isinstance(model, Program):
        raise ValueError(
            "distill_features wants a teacher of floats, and this one is int8; take the one it was made of"
        )
    head, *others = models.heads(model).values()
    if others or not isinstance(head, nn.Linear):
        raise ValueError(
            f"distill_features wants models with one linear classifier, and {type(model).__name__} has "
            f"{', '.join(models.heads(model))}; leave it out"
        )
    return head


# --- opening ----------------------------------------------------------------------------------------------------------
def open_teacher(config: Config, parts: Parts, input: Input, accelerator: Any, run: Path | None) -> Teacher | None:
    """The teachers of a run, on its device; ``run``: the folder of one that goes on.

    Raises ValueError for runs that there are not, other tasks, other classes than those of the data, in their order;
    teachers that have changed since the run began; features where they cannot be had.
    """
    if not config.teacher:
        return None
    if config.distill_features and (accelerator.num_processes > 1 or config.compile):
        raise ValueError("distill_features is of one process, without compile; leave it out, or these")
    begun = None if run is None else Run(run).resolved["teacher"]
    names = config.teacher if begun is None else [one["weights"] or one["model"] for one in begun]
    members, record, soft = [], [], True
    for i, name in enumerate(names):
        found = _published(name, config, len(parts.train.classes)) if _is_published(name, config) else None
        if found is None:
            some, known = _of_run(name, config, parts, "cpu")
        else:
            (one, card), known = found
            some, soft = [(one, card.size, (card.mean, card.std))], False
        if begun is not None and known["digest"] != begun[i]["digest"]:
            raise ValueError(f"teacher {name}: no longer as it was when {run} began; restore it, or start a new run")
        members += [One(*one, (input.mean, input.std)) for one in some]
        record.append(known)
    if config.compile:
        for one in members:
            one.model.compile()
    several = parts.train.labels.ndim > 1
    return Teacher(members, config, several, soft, record).to(
        accelerator.device, memory_format=models.layout(accelerator.device)
    )


def _of_run(name: str, config: Config, parts: Parts, device: str) -> tuple[list[tuple], dict[str, Any]]:
    """([(network, size, (mean, std))] of its members, what is kept of it)."""
    weights = weights_of(name, config.out)
    model = opened(weights, device=device)
    if model.about.task != "classify":
        raise ValueError(f"teacher {name}: it is of the task {model.about.task}, and teachers are of classify alone")
    classes, several = tuple(parts.train.classes), parts.train.labels.ndim > 1
    if model.classes != classes:
        raise ValueError(f"teacher {name}: its classes are not those of the data: {differ(model.classes, classes)}")
    if model.about.several != several:
        one = "several labels" if model.about.several else "one label"
        raise ValueError(f"teacher {name}: it tells {one} of an image, and these data have another kind")
    after = Run(weights.parent).event("after") if (weights.parent / runs.CONFIG).is_file() else {}
    known = {
        "run": weights.resolve().parent.name, "model": model.about.model, "weights": str(weights.resolve()),
        "test_accuracy": after.get("test_accuracy"), "digest": beginning.digest(weights),
    }  # fmt: skip
    alike: list[Classifier] = alone(model)
    return [(one.model, one.size, (one.about.mean, one.about.std)) for one in alike], known


def _is_published(name: str, config: Config) -> bool:
    """Whether a teacher is a model of timm's, not a run."""
    if Path(name).exists() or (Path(config.out) / name).exists() or name.isdecimal():
        return False
    return ":" not in name and name != models.SMALL and models.known(name)


def _published(name: str, config: Config, classes: int) -> tuple[tuple, dict[str, Any]]:
    if not config.distill_features:
        raise ValueError(
            f"teacher {name}: timm's weights are for other classes than those of the data: fine-tune it first and name "
            "that run, or take distill_features, which learns from its features alone"
        )
    card = models.card(name)
    model, _ = models.build(name, classes, models.PRETRAINED)
    digest = hashlib.blake2b(digest_size=16)
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    known = {"run": None, "model": name, "weights": None, "test_accuracy": None, "digest": digest.hexdigest()}
    return (model, card), known | {"origin": TIMM}


def words(teacher: Teacher | None) -> list[str]:
    """What was decided, for the screen and the page."""
    if teacher is None:
        return []
    config, names = teacher.config, [one["run"] or one["model"] for one in teacher.record]
    what = [f"soft targets at temperature {config.distill_temperature:g}"] * teacher.soft
    what += ["features"] * config.distill_features
    mean = f"the mean of {', '.join(names)}" if len(names) > 1 else names[0]
    return [f"teacher {mean}: {' and '.join(what)}, {config.distill_weight:g} of the loss"]
