"""Several classifiers as one: :class:`Ensemble`, whose probabilities are the mean of its members'."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .saved import About, Classifier, Saved, class_of

MODEL = "ensemble"  # what an ensemble's file calls its model
CHECKED = {  # of all members the same, and what it is called
    "several": "whether a sample may have several labels",
    "size": "side of the input",
    "resize": "shorter side before the crop",
}


class Renormalise(nn.Module):
    """Of images [B, 3, H, W] that are normalised by one (mean, std) those that are normalised by another."""

    def __init__(self, had: tuple[Sequence[float], Sequence[float]], wants: tuple[Sequence[float], Sequence[float]]):
        super().__init__()
        mean, std, other, spread = torch.tensor([*had, *wants], dtype=torch.float64).view(4, 3, 1, 1)
        self.same = tuple(map(tuple, had)) == tuple(map(tuple, wants))
        self.register_buffer("scale", (std / spread).float(), persistent=False)
        self.register_buffer("shift", ((mean - other) / spread).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.same else x * self.scale + self.shift


class Mean(nn.Module):
    """Of normalised images [B, 3, H, W] logits [B, K], whose probabilities are the mean of the members'.

    Args:
        inputs: of each member what makes its input of the images.
        several: whether a sample may have several labels: then each class has a probability of its own.
    """

    def __init__(self, members: Sequence[nn.Module], inputs: Sequence[nn.Module], several: bool):
        super().__init__()
        self.members, self.inputs, self.several = nn.ModuleList(members), nn.ModuleList(inputs), several

    def forward(self, x: Tensor) -> Tensor:
        made = [member(own(x)).float() for member, own in zip(self.members, self.inputs, strict=True)]
        return mean_logits(torch.stack(made), self.several)


def mean_logits(logits: Tensor, several: bool) -> Tensor:
    """Logits [B, K] of the mean of the probabilities that logits [M, B, K] have."""
    if several:
        return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


class Ensemble(Classifier):
    """Several runs' classifiers as one: called, predicting, evaluated and exported as each of them. Its probabilities
    are the mean of theirs. Images are resized as for the first of them. Attributes as
    :class:`gpuaug.finetune.saved.Saved`."""

    @classmethod
    def of(cls, members: Sequence[Saved]) -> Ensemble:
        """Of loaded classifiers. Raises ValueError where they have other classes, or want other images."""
        check_alike([(named(one), one) for one in members])
        models = [model for one in members for model in alone(one)]
        first = members[0].about
        details = {"ensemble": [asdict(one.about) for one in models]}
        about = About(**asdict(first) | {"model": MODEL, "recipe": f"mean of {len(models)}", "details": details})
        network = cls._joined([one.model for one in models], about)
        return cls(network.to(members[0].device), about).to(members[0].device)

    @classmethod
    def _joined(cls, networks: Sequence[nn.Module], about: About) -> Mean:
        had = about.mean, about.std
        inputs = [Renormalise(had, (one.mean, one.std)) for one in abouts(about)]
        return Mean(networks, inputs, about.several)

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        from safetensors.torch import load_file

        if given is not None:
            raise ValueError(f"{path}: an ensemble, which holds models of its own; leave model= out")
        state, networks = load_file(path), []
        with tempfile.TemporaryDirectory() as place:
            for i, one in enumerate(abouts(about)):
                prefix, file = f"members.{i}.", Path(place) / f"{i}.safetensors"
                own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
                save_file(own, file, one.dumped())
                networks.append(class_of(one.kind, path).network(one, file, None))
        return cls._joined(networks, about)

    @staticmethod
    def by_hand(about: About) -> bool:
        return any(class_of(one.kind).by_hand(one) for one in abouts(about))

    @property
    def members(self) -> list[Classifier]:
        """Each of them alone, with its own normalisation."""
        pairs = zip(self.model.members, abouts(self.about), strict=True)
        return [class_of(one.kind)(network, one, self.path).to(self.device) for network, one in pairs]


def abouts(about: About) -> list[About]:
    """Of an ensemble's members."""
    kept = [{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()} for one in about.details["ensemble"]]
    return [About(**one) for one in kept]


def alone(model: Classifier) -> list[Classifier]:
    """The members of an ensemble; of another model itself."""
    return model.members if isinstance(model, Ensemble) else [model]


def named(model: Saved) -> str:
    """A loaded model, as errors call it: the folder of its run, or its file."""
    return model.about.model if model.path is None else str(model.path.parent.name or model.path)


# --- what goes together -----------------------------------------------------------------------------------------------
def check_alike(models: Sequence[tuple[str, Saved]], what: str = "an ensemble", more: Sequence[str] = ()) -> None:
    """Raises ValueError, with the first difference, for models, by name, that do not go together: of other tasks than
    classify, of other classes, or for other images. ``more``: further attributes of About that have to be the same."""
    if len(models) < 2:
        raise ValueError(f"{what} is of two models or more; name another run")
    (first, about) = models[0][0], models[0][1].about
    seen: set[Path] = set()
    for name, model in models:
        if model.about.task != "classify":
            raise ValueError(f"{name}: it is of the task {model.about.task}, and {what} is of classify alone")
        if model.path is not None and model.path.resolve() in seen:
            raise ValueError(f"{name}: named twice; {what} is of different runs")
        seen |= set() if model.path is None else {model.path.resolve()}
        if model.classes != about.classes:
            raise ValueError(f"{name}: its classes are not those of {first}: {differ(model.classes, about.classes)}")
        for field in (*CHECKED, *more):
            own, other = getattr(model.about, field), getattr(about, field)
            if own != other:
                raise ValueError(f"{name}: {CHECKED.get(field, field)} is not that of {first}: {own} and {other}")


def differ(classes: Sequence[str], others: Sequence[str]) -> str:
    """The first difference of two lists of classes, in words."""
    if sorted(classes) == sorted(others):
        i = next(i for i, pair in enumerate(zip(classes, others, strict=True)) if pair[0] != pair[1])
        return f"the same ones in another order, number {i} is {classes[i]} and {others[i]}"
    lacking, more = ([one for one in a if one not in b] for a, b in ((others, classes), (classes, others)))
    told = [f"it {word} {', '.join(names[:4])}" for word, names in (("has", more), ("lacks", lacking)) if names]
    return f"{'; '.join(told)} ({len(classes)} and {len(others)} classes)"
