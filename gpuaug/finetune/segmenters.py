"""Models that say of each pixel what it is: an encoder of timm, and a decoder of segmentation_models_pytorch or
torchvision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpuaug.messages import meant

from . import models

CHANNELS = (128, 64, 32, 24, 16)  # of the U-Net's decoder, from the coarsest level: half of what is usual, for CPUs
HEAD = ("decoder", "segmentation_head")


def decoders() -> dict[str, Callable[..., nn.Module]]:
    """Architectures by name. Raises ValueError where the extra is not installed."""
    try:
        import segmentation_models_pytorch as smp
    except ModuleNotFoundError:
        raise ValueError("the task segment needs an extra: pip install 'gpuaug[segment]'") from None
    return {
        "unet": smp.Unet, "unetplusplus": smp.UnetPlusPlus, "fpn": smp.FPN, "linknet": smp.Linknet,
        "deeplabv3plus": smp.DeepLabV3Plus, "upernet": smp.UPerNet,
        "deeplabv3": functools.partial(Headed, "DeepLabHead"), "fcn": functools.partial(Headed, "FCNHead"),
    }  # fmt: skip


class Headed(nn.Module):
    """One of torchvision's heads, "DeepLabHead" (Chen et al., 2017) or "FCNHead" (Long et al., 2015), on the coarsest
    features of an encoder, 32 pixels a side each; its logits are scaled up, bilinear. Arguments as those of
    segmentation_models_pytorch."""

    def __init__(self, head: str, encoder_name: str, encoder_weights: str | None = None, classes: int = 2):
        from segmentation_models_pytorch.encoders import get_encoder
        from torchvision.models import segmentation

        super().__init__()
        self.encoder = get_encoder(encoder_name, weights=encoder_weights)
        kind = {"DeepLabHead": segmentation.deeplabv3.DeepLabHead, "FCNHead": segmentation.fcn.FCNHead}[head]
        *layers, last = kind(self.encoder.out_channels[-1], classes)
        self.decoder, self.segmentation_head = nn.Sequential(*layers), last

    def forward(self, x: Tensor) -> Tensor:
        made = self.segmentation_head(self.decoder(self.encoder(x)[-1]))
        return F.interpolate(made, x.shape[-2:], mode="bilinear")


def build(name: str, classes: int, decoder: str = "unet", weights: str | None = None) -> tuple[nn.Module, str]:
    """(model, one sentence on where its weights come from): images [B, 3, H, W] with sides that 32 divides to logits
    [B, classes, H, W].

    ``name``: of a timm model, which is the encoder. ``weights``: a file of a whole model that a run saved, or of a
    classifier, whose encoder is taken; "pretrained" for timm's own; None for random ones.
    Raises ValueError for names that there are not, and weights that are not this model's.
    """
    known = decoders()
    if decoder not in known:
        raise ValueError(f"there is no decoder {decoder!r}; {', '.join(known)}{meant(decoder, known)}")
    models.card(name)  # an unknown name ends here
    options = {"decoder_channels": CHANNELS} if decoder in ("unet", "unetplusplus") else {}
    published = "imagenet" if weights == "pretrained" else None
    try:
        model = known[decoder](f"tu-{name}", encoder_weights=published, classes=classes, **options)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"model {name}: it cannot be the encoder of {decoder} here ({reason})") from error
    model.pretrained_cfg = {"classifier": HEAD}
    if weights is None:
        return model, f"random weights: --weights pretrained, or a file of {name}, would need far fewer images"
    if weights == "pretrained":
        return model, f"timm's pretrained weights in the encoder, {models.NEW}"
    return model, models.fill_around(model, model.encoder.model, Path(weights), name, "segmentation_head", "encoder")


def name_head(model: nn.Module) -> None:
    """Note in a segmenter of one's own, where it does not say which its classifier is, that it is the last module with
    weights of its own, norms left out. Only linear layers would be looked for otherwise."""
    published = getattr(model, "pretrained_cfg", None) or {}
    if "classifier" in published:
        return
    own = {name: list(module.parameters(recurse=False)) for name, module in model.named_modules() if name}
    names = [name for name, parameters in own.items() if any(one.ndim > 1 for one in parameters)]
    if names:
        model.pretrained_cfg = {**published, "classifier": names[-1]}


def fill(model: nn.Module, path: Path, name: str) -> None:
    """All of a saved segmenter's weights. Raises ValueError for those of another model."""
    from safetensors.torch import load_file

    state, own = load_file(path), model.state_dict()
    shapes, others = ({key: value.shape for key, value in one.items()} for one in (state, own))
    wrong = sorted(key for key in shapes.keys() | others.keys() if shapes.get(key) != others.get(key))
    if wrong:
        raise ValueError(
            f"{path}: not the weights of this model, {name}: {len(wrong)} tensors differ: {', '.join(wrong[:4])}, ...; "
            "hand over the model that they are of"
        )
    model.load_state_dict(state)


# --- windows ----------------------------------------------------------------------------------------------------------
def windowed(model: nn.Module, image: Tensor, size: int, batch: int = 8) -> Tensor:
    """Logits [K, H, W] of an image [3, H, W] of any size: the mean over windows of ``size`` pixels a side that overlap
    by half, each weighted more in its middle; an image that is smaller is mirrored at its borders."""
    height, width = image.shape[1:]
    down, right = max(size - height, 0), max(size - width, 0)
    padded = _mirrored(image, down, right)
    tops, lefts = (starts(side, size) for side in padded.shape[1:])
    places = [(top, left) for top in tops for left in lefts]
    tent = 1 - (torch.arange(size, device=image.device) - (size - 1) / 2).abs() / (size / 2 + 0.5)
    weight, total, found = torch.outer(tent, tent), None, None
    for some in _chunks(places, batch):
        made = model(torch.stack([padded[:, top : top + size, left : left + size] for top, left in some])).float()
        if found is None:
            found = made.new_zeros(made.shape[1], *padded.shape[1:])
            total = made.new_zeros(padded.shape[1:])
        for (top, left), logits in zip(some, made, strict=True):
            found[:, top : top + size, left : left + size] += weight * logits
            total[top : top + size, left : left + size] += weight
    return (found / total)[:, :height, :width]


def starts(side: int, size: int) -> list[int]:
    """Where windows of ``size`` begin along a side, evenly spread, at most half of one apart."""
    n = 1 if side <= size else -(-(side - size) // (size // 2)) + 1
    return [round(i * (side - size) / max(n - 1, 1)) for i in range(n)]


def _mirrored(image: Tensor, down: int, right: int) -> Tensor:
    """With rows and columns added below and to the right, as often mirrored as it takes."""
    rows, columns = (_reflected(n, n + more) for n, more in zip(image.shape[1:], (down, right), strict=True))
    return image[:, rows.to(image.device)][:, :, columns.to(image.device)]


def _reflected(n: int, length: int) -> Tensor:
    places = torch.arange(length) % max(2 * n - 2, 1)
    return torch.where(places < n, places, 2 * n - 2 - places)


def _chunks(values: list, size: int) -> Iterator[list]:
    for i in range(0, len(values), size):
        yield values[i : i + size]
