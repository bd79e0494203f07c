"""The model to be fine-tuned: CIFAR's ResNet-20, or any of timm's, with weights from a file."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import gpuaug as ga


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut has no weights: every ``stride``-th pixel, new channels zero (option A)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new = stride, (c_out - c_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new or self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new, self.new))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """The 0.27 M parameter network for 32x32 images of He et al., 2015, section 4.2; input float [B, 3, H, W]."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (c_in, c_out) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            blocks = [
                BasicBlock(c_in, c_out, 2 if stage > 1 else 1),
                BasicBlock(c_out, c_out, 1),
                BasicBlock(c_out, c_out, 1),
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(m.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


@dataclass(frozen=True)
class ModelCard:
    """What the data has to know about a model: its input side in pixels, and the mean and std it was trained with."""

    size: int
    mean: tuple[float, ...] = ga.IMAGENET_MEAN
    std: tuple[float, ...] = ga.IMAGENET_STD


def card(name: str) -> ModelCard:
    """The :class:`ModelCard` of ``resnet20`` or a timm model. Raises ValueError for any other name."""
    if name == "resnet20":
        return ModelCard(size=32)
    import timm

    base = name.split(".")[0]  # timm's tags: resnet18.a1_in1k
    if not timm.is_model(base):
        close = difflib.get_close_matches(base, timm.list_models(), n=4, cutoff=0.5)
        raise ValueError(
            f"there is no model {name!r}: resnet20 or one of timm's" + f" ({', '.join(close)}, ...)" * bool(close)
        )
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is None:
        return ModelCard(size=224)
    return ModelCard(pretrained.input_size[-1], tuple(pretrained.mean), tuple(pretrained.std))


def build(name: str, num_classes: int, weights: str | None = None, size: int | None = None) -> tuple[nn.Module, str]:
    """(model, one sentence on where its weights come from).

    ``weights``: a safetensors file (a classifier for another number of classes is replaced by a new one),
    ``"pretrained"`` for timm's own, None for random ones. ``size``: input side, for models that are built for one.
    Raises ValueError for an unknown name and for weights that are not this model's.
    """
    if name == "resnet20":
        if weights == "pretrained":
            raise ValueError("resnet20 has no published weights here; pass --weights FILE.safetensors")
        model = ResNet20(num_classes)
        head = "linear."
    else:
        model = _build_timm(name, num_classes, weights == "pretrained", size)
        head = model.pretrained_cfg.get("classifier", "fc")
        head = tuple(f"{h}." for h in ((head,) if isinstance(head, str) else head))
    if weights is None:
        return model, "random weights"
    if weights == "pretrained":
        return model, "timm's pretrained weights, new classifier"
    return model, _load(model, Path(weights), head)


def _build_timm(name: str, num_classes: int, pretrained: bool, size: int | None) -> nn.Module:
    import timm

    native = card(name).size  # an unknown name ends here
    create = functools.partial(timm.create_model, name, pretrained=pretrained, num_classes=num_classes)
    try:
        if size not in (None, native):
            try:
                return create(img_size=size)
            except TypeError as error:
                if "img_size" not in str(error):
                    raise  # otherwise convolutional: any size fits
        return create()
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: no pretrained weights to be had from timm; pass a file ({reason})") from error


def _load(model: nn.Module, path: Path, head: str | tuple[str, ...]) -> str:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    own = model.state_dict()
    new_head = [k for k in own if k.startswith(head) and k in state and state[k].shape != own[k].shape]
    for k in new_head:
        state[k] = own[k]
    wrong = sorted(
        k for k in own.keys() | state.keys() if k not in own or k not in state or own[k].shape != state[k].shape
    )
    wrong = [k for k in wrong if not k.endswith("num_batches_tracked")]
    if wrong:
        raise ValueError(
            f"{path}: not the weights of this model; {len(wrong)} tensors differ: {', '.join(wrong[:4])}, ..."
        )
    model.load_state_dict(state, strict=False)
    return f"weights of {path.name}" + ", new classifier" * bool(new_head)
