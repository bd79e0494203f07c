"""Models of clips float [B, T, 3, H, W]: a 2-D network of images with time pooled before, or behind it; torchvision's
3-D ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .models import adapt, build, head_prefixes, heads

POOLINGS = ("stack", "conv", "mean", "max")
TORCHVISION = "torchvision:"


class TemporalPool(nn.Module):
    """Logits [B, K] of clips [B, T, 3, H, W] by a network of images.

    Args:
        backbone: float [B, C, H, W] to logits [B, K], with one linear layer behind pooled features, as `models.build`
            makes it.
        frames: T.
        pooling: "stack": the frames are channels of one image (early fusion, Karpathy et al., CVPR 2014): the first
            convolution takes 3 T of them, and the network sees what moves where, at the cost of one image a clip.
            "mean", "max": each frame is an image, and the features of all are pooled, in any order: for what is in a
            clip, not how it moves. "conv": two convolutions over the frames' pooled features, which tell their order
            but no longer where anything lay.

    Raises:
        ValueError: another pooling; a network whose first convolution or classifier is not to be found.
    """

    def __init__(self, backbone: nn.Module, frames: int, pooling: str = "stack"):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.frames, self.pooling, self.backbone = frames, pooling, backbone
        if pooling == "stack":
            _inflate(backbone, frames)
            return
        (name, head), *others = heads(backbone).items()
        if others or not isinstance(head, nn.Linear):
            raise ValueError(f"{type(backbone).__name__}: pooling={pooling} wants one linear classifier; take stack")
        parent, _, last = name.rpartition(".")
        setattr(backbone.get_submodule(parent), last, nn.Identity())
        self.head, width = head, head.in_features
        if pooling == "conv":
            self.over_time = nn.Sequential(
                nn.Conv1d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Conv1d(width, width, 3, padding=1),
            )

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        b, t, *image = clips.shape
        if t != self.frames or clips.dim() != 5:
            raise ValueError(f"the model takes clips [B, {self.frames}, 3, H, W], got {list(clips.shape)}")
        if self.pooling == "stack":
            return self.backbone(clips.reshape(b, -1, *image[1:]))
        features = self.backbone(clips.reshape(b * t, *image)).view(b, t, -1)
        if self.pooling == "conv":
            features = features + self.over_time(features.transpose(1, 2)).transpose(1, 2)
        return self.head(features.amax(1) if self.pooling == "max" else features.mean(1))


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
    frames: int = 8,
    *,
    pooling: str = "stack",
    weights: str | None = None,
    size: int | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[nn.Module, str]:
    """(model of clips [B, T, 3, H, W], one sentence on where its weights come from).

    Args:
        name: a network of images, as `models.build` takes it, pooled as :class:`TemporalPool` says; or one of
            torchvision's of clips: ``torchvision:r3d_18``, ``torchvision:mvit_v1_b``, ``torchvision:s3d``.
        frames: T. torchvision's mvit take 16 frames of 224 pixels.
        weights: as `models.build` takes them; of torchvision's ``"pretrained"`` (Kinetics-400) or None.
        size, classes: as `models.build` takes them.

    Raises:
        ValueError: an unknown name or pooling, or weights that are not this model's.
    """
    if name.startswith(TORCHVISION):
        return _of_torchvision(name, num_classes, weights)
    model, sentence = build(name, num_classes, weights, size, classes=classes)
    return TemporalPool(model, frames, pooling), sentence


def by_video(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(float [V, K], ids [V]): the mean class probabilities of the clips [N, K] of each video, in the order in which
    the videos first come."""
    seen: dict[int, int] = {}
    of = torch.tensor([seen.setdefault(one, len(seen)) for one in ids.tolist()], device=logits.device)
    total = torch.zeros(len(seen), logits.shape[1], device=logits.device)
    total.index_add_(0, of, logits.float().softmax(1))
    return total / torch.bincount(of, minlength=len(seen))[:, None], torch.tensor(list(seen), dtype=torch.int64)


def _inflate(backbone: nn.Module, frames: int) -> None:
    """Have the first convolution take 3 T channels: half of its filters see the mean of the frames at first, the others
    the later frames less the earlier ones (weights as of a dynamic image, Bilen et al., CVPR 2016)."""
    name, first = next(
        ((name, m) for name, m in backbone.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1), ("", None)
    )
    if first is None or first.in_channels != 3:
        raise ValueError(f"{type(backbone).__name__}: it begins with no convolution of 3 channels; take pooling=mean")
    new = type(first)(
        3 * frames, first.out_channels, first.kernel_size, first.stride, first.padding, first.dilation,
        bias=first.bias is not None, padding_mode=first.padding_mode,
    ).to(first.weight)  # fmt: skip
    steps = torch.linspace(-1.0, 1.0, frames).to(first.weight) if frames > 1 else torch.zeros(1)
    late = steps / steps.abs().sum().clamp(min=1.0)
    with torch.no_grad():
        weight = (first.weight[:, None] / frames).repeat(1, frames, 1, 1, 1)
        weight[1::2] = first.weight[1::2, None] * late[:, None, None, None]
        new.weight.copy_(weight.flatten(1, 2))
        if first.bias is not None:
            new.bias.copy_(first.bias)
    parent, _, last = name.rpartition(".")
    setattr(backbone.get_submodule(parent), last, new)


def _of_torchvision(name: str, num_classes: int, weights: str | None) -> tuple[nn.Module, str]:
    from torchvision.models import get_model, list_models, video

    known, asked = list_models(module=video), name.removeprefix(TORCHVISION)
    if asked not in known:
        raise ValueError(f"there is no model {name!r}: {', '.join(TORCHVISION + one for one in known)}")
    if weights not in (None, "pretrained"):
        raise ValueError(f"{name}: weights are 'pretrained' or None, got {weights!r}")
    try:
        model = get_model(asked, weights="DEFAULT" if weights else None)
    except OSError as error:
        raise ValueError(f"{name}: no pretrained weights to be had from torchvision ({error})") from error
    adapt(model, num_classes)
    return Volume(model), "torchvision's weights of Kinetics-400, new classifier" if weights else "random weights"


__all__ = ["POOLINGS", "TemporalPool", "Volume", "by_video", "head_prefixes", "video_model"]
