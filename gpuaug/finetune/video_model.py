"""Models of clips float [B, T, 3, H, W]: a 2-D network of images with time pooled before, or behind it; torchvision's
3-D ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .models import NEW, ModelCard, adapt, build, fill, heads, said

POOLINGS = ("correlation", "mean", "max")
REDUCTION, RADIUS, GAP, CELLS, WIDTH = 4, 3, 3, 4, 32
PATCHES, PATCH = "patches", 5
TORCHVISION, TASK = "torchvision:", "video"


class TemporalPool(nn.Module):
    """Logits [B, K] of clips [B, T, 3, H, W] by a network of images.

    A backbone whose parameters take no gradient (``model.backbone.requires_grad_(False)``) stays in evaluation mode.

    Args:
        backbone: float [B, 3, H, W] to logits [B, K], with one linear layer behind pooled features, as `models.build`
            makes it. "correlation" takes away what it does not use.
        pooling: "mean", "max": of the frames' pooled features, in any order: for what is in a clip, not how it moves.
            "correlation": for how it moves, and nothing else, see :class:`Correlation`.
        num_classes: K, where "correlation" makes a classifier of its own.

    Raises:
        ValueError: another pooling; a network without one linear classifier, or without feature maps of a quarter of
            the image's size.

    Attributes:
        head: the classifier: a linear layer of pooled features [B, D]; of "correlation" what reads the feature maps
            [B, T, C, h, w], and a linear layer behind it.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, pooling: str = "correlation"):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.pooling, self.backbone = pooling, backbone
        (name, head), *others = heads(backbone).items()
        if others or not isinstance(head, nn.Linear):
            raise ValueError(f"{type(backbone).__name__}: time is pooled in front of one linear classifier")
        parent, _, last = name.rpartition(".")
        setattr(backbone.get_submodule(parent), last, nn.Identity())
        if pooling == "correlation":
            self.level, over_time = _level(backbone), Correlation()
            linear = nn.Linear(over_time.features, num_classes)
            self.head = nn.Sequential(OrderedDict(over_time=over_time, linear=linear))
        else:
            self.head = head
        self.pretrained_cfg = {**(getattr(backbone, "pretrained_cfg", None) or {}), "classifier": "head"}

    @property
    def over_time(self) -> Correlation:
        """What reads the maps, of "correlation"."""
        return self.head.over_time

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """Which parameters are a layer, as timm's models say it: those of the backbone, then the classifier."""
        from timm.models import group_parameters

        found: dict[str, int] = {}
        if hasattr(self.backbone, "group_matcher"):
            found = group_parameters(self.backbone, self.backbone.group_matcher(coarse=coarse), reverse=True)
        return lambda name: float(found.get(name.removeprefix("backbone."), -1 if "backbone." in name else "inf"))

    def train(self, mode: bool = True) -> TemporalPool:
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if clips.dim() != 5 or clips.shape[2] != 3:
            raise ValueError(f"the model takes clips [B, T, 3, H, W], got {list(clips.shape)}")
        images = clips.flatten(0, 1)
        if self.pooling == "correlation":
            (maps,) = self.backbone.forward_intermediates(
                images, indices=[self.level], stop_early=True, intermediates_only=True
            )
            return self.head(maps.unflatten(0, (-1, clips.shape[1])))
        features = self.backbone(images).unflatten(0, (-1, clips.shape[1]))
        return self.head(features.amax(1) if self.pooling == "max" else features.mean(1))


class Correlation(nn.Module):
    """What moves where: features float [B, D] of a network's maps [B, T, C, h, w].

    Each place of a map is compared with the places around it in the map `gap` frames later, by the cosine of their
    channels (the correlation layer of FlowNet, Dosovitskiy et al., ICCV 2015, between frames of a network of images as
    in MotionSqueeze, Kwon et al., ECCV 2020). A softmax over the places makes that a distribution of where each has
    gone, which two convolutions read, averaged in `CELLS` x `CELLS` parts of the picture and over time.

    Args:
        radius: so far places are compared, in pixels of the maps. gap: frames; fewer in shorter clips.
    """

    def __init__(self, radius: int = RADIUS, gap: int = GAP, width: int = WIDTH):
        super().__init__()
        self.radius, self.gap, self.features = radius, gap, width * CELLS**2
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.body = nn.Sequential(
            nn.Conv2d((2 * radius + 1) ** 2, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(CELLS),
            nn.Flatten(),
            nn.Dropout(0.2),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        t, h, w = maps.shape[1], *maps.shape[-2:]
        if t < 2:
            raise ValueError(f"motion takes clips of at least two frames, got {t}")
        gap, reach = min(self.gap, t - 1), range(2 * self.radius + 1)
        maps = F.normalize(maps - maps.mean((3, 4), keepdim=True), dim=2)
        before, after = maps[:, :-gap].flatten(0, 1), F.pad(maps[:, gap:].flatten(0, 1), [self.radius] * 4)
        alike = [(before * after[:, :, y : y + h, x : x + w]).sum(1) for y in reach for x in reach]
        moved = (torch.stack(alike, 1) * self.scale).softmax(1)
        return self.body(moved).unflatten(0, (-1, t - gap)).mean(1)


class Patches(nn.Module):
    """In place of a network of images: the pixels around each place, as "correlation" compares them. There is nothing
    to learn in it, and nothing to load.

    Maps are [B, 75, h, w] at a quarter of the image's size, of the 5 x 5 means around a place, less their own mean, so
    that comparing them is a normalised cross-correlation.
    """

    feature_info = [{"num_chs": 3 * PATCH**2, "reduction": REDUCTION, "module": "patches"}]

    def __init__(self, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(3 * PATCH**2, num_classes)  # what a network of images has, and "correlation" removes

    def forward_intermediates(self, x: torch.Tensor, **_: Any) -> list[torch.Tensor]:
        """The maps, as timm's models give theirs."""
        small = F.pad(F.avg_pool2d(x, REDUCTION), [PATCH // 2] * 4, mode="replicate")
        h, w = (side - PATCH + 1 for side in small.shape[2:])
        around = F.unfold(small, PATCH).unflatten(1, (3, PATCH**2)).unflatten(3, (h, w))
        return [(around - around.mean(2, keepdim=True)).flatten(1, 2)]


class Volume(nn.Module):
    """A model of [B, 3, T, H, W], as torchvision's are, that takes [B, T, 3, H, W]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model(clips.transpose(1, 2))


def video_model(
    name: str,
    num_classes: int,
    *,
    pooling: str = "correlation",
    weights: str | None = None,
    size: int | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[nn.Module, str]:
    """(model of clips [B, T, 3, H, W], one sentence on where its weights come from).

    Args:
        name: a network of images, as `models.build` takes it, pooled as :class:`TemporalPool` says; ``patches``, see
            :class:`Patches`; or one of torchvision's of clips: ``torchvision:r3d_18``, ``torchvision:mvit_v1_b``. Any T
            will do, but for torchvision's mvit, which take 16 frames of 224 pixels.
        weights: as `models.build` takes them, or a file that a run of such a model has saved; of torchvision's
            ``"pretrained"`` (Kinetics-400) is another choice.
        size, classes: as `models.build` takes them.

    Raises:
        ValueError: an unknown name or pooling, or weights that are not this model's.
    """
    own = weights not in (None, "pretrained") and said(Path(weights)).get("task") == TASK
    begun = None if own else weights
    if name == PATCHES and (pooling != "correlation" or begun is not None):
        raise ValueError(f"{PATCHES} goes with pooling=correlation, and has no weights of its own")
    if name == PATCHES:
        model, sentence = TemporalPool(Patches(num_classes), num_classes), "random weights"
    elif name.startswith(TORCHVISION):
        model, sentence = _of_torchvision(name, num_classes, begun)
    else:
        image, sentence = build(name, num_classes, begun, size, classes=classes)
        model = TemporalPool(image, num_classes, pooling)
        if begun is not None and pooling == "correlation" and NEW not in sentence:
            sentence += f", {NEW}"
    return model, fill(model, Path(weights), name, classes) if own else sentence


def card(name: str) -> ModelCard | None:
    """What clips have to be for one of torchvision's models, as it was trained; None for another name. Raises
    ValueError for one that there is not."""
    if not name.startswith(TORCHVISION):
        return None
    from torchvision.models import get_model_weights

    made = get_model_weights(_known(name)).DEFAULT.transforms()
    size = made.crop_size[0]
    return ModelCard(size, tuple(made.mean), tuple(made.std), min(size / min(made.resize_size), 1.0))


def frames_of(name: str) -> int | None:
    """How many frames a model has to have; None: any number."""
    return 16 if name.startswith(f"{TORCHVISION}mvit") else None


def _level(backbone: nn.Module) -> int:
    """Which of a network's feature maps has a quarter of the image's size; what lies behind is taken away."""
    known = list(getattr(backbone, "feature_info", ()))
    found = [i for i, one in enumerate(known) if one["reduction"] == REDUCTION]
    if not found or not hasattr(backbone, "forward_intermediates"):
        raise ValueError(
            f"{type(backbone).__name__}: it has no feature maps of 1/{REDUCTION} of the image's size; take "
            f"pooling=mean, or a convolutional network"
        )
    if hasattr(backbone, "prune_intermediate_layers"):
        backbone.prune_intermediate_layers([found[-1]], prune_norm=True, prune_head=True)
    return found[-1]


def _known(name: str) -> str:
    """torchvision's name of a model of clips."""
    from torchvision.models import list_models, video

    known, asked = list_models(module=video), name.removeprefix(TORCHVISION)
    if asked not in known:
        raise ValueError(f"there is no model {name!r}: {', '.join(TORCHVISION + one for one in known)}")
    return asked


def _of_torchvision(name: str, num_classes: int, weights: str | None) -> tuple[nn.Module, str]:
    from torchvision.models import get_model

    asked = _known(name)
    if weights not in (None, "pretrained"):
        raise ValueError(f"{name}: weights are 'pretrained', None, or a file of a run of this model; got {weights!r}")
    try:
        model = get_model(asked, weights="DEFAULT" if weights else None)
    except OSError as error:
        raise ValueError(f"{name}: no pretrained weights to be had from torchvision ({error})") from error
    adapt(model, num_classes)
    return Volume(model), f"torchvision's weights of Kinetics-400, {NEW}" if weights else "random weights"
