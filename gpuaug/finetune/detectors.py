"""Models that find objects: torchvision's detectors on a backbone of timm, with strides and anchors from the boxes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpuaug.messages import meant

from . import models

CHANNELS, CONVS = 64, 2  # of the feature pyramid, and of the convolutions before each answer: made for CPUs
FINEST, COARSEST, MOST_STRIDE = 4, 32, 128
CELLS = 1.5  # so many steps of the finest map has a usual box of the smallest class
SCORE, OVERLAP, MOST_BOXES = 0.02, 0.5, 100  # what is an answer: the least score, the IoU of two of one class, an image


@dataclass(frozen=True)
class Geometry:
    """What a detector has to know of the boxes that it is to find, in pixels of its input.

    Attributes:
        strides: of the maps that it answers on, fine to coarse.
        sizes: of its anchors, a tuple a map, roots of areas. ratios: heights over widths.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    ratios: tuple[float, ...]

    @classmethod
    def of(cls, sides: np.ndarray, labels: np.ndarray) -> Geometry:
        """Of boxes' widths and heights, float [N, 2], and their classes, int [N].

        The finest stride is the largest power of two of which the median box of the smallest class has CELLS. The
        coarsest is 32, or more where a twentieth of the boxes of the largest class is longer than 8 steps of it.
        Anchors are evenly spaced, in powers, from the tenth of the smallest class to the tenth of the largest.
        """
        roots = np.sqrt(sides.prod(1))
        each = [roots[labels == k] for k in np.unique(labels)]
        median, low = (min(np.quantile(one, q) for one in each) for q in (0.5, 0.1))
        high, longest = max(np.quantile(one, 0.9) for one in each), np.quantile(sides.max(1), 0.95)
        first = FINEST
        while first < COARSEST // 2 and 2 * first * CELLS <= median:
            first *= 2
        strides = [first]
        while strides[-1] < COARSEST or (strides[-1] < MOST_STRIDE and 8 * strides[-1] < longest):
            strides.append(2 * strides[-1])
        spaced = np.geomspace(max(low, 1), max(high, low + 1), 2 * len(strides)).round().astype(int).tolist()
        sizes = tuple(zip(spaced[::2], spaced[1::2], strict=True))
        tall = np.quantile(np.log(sides[:, 1] / sides[:, 0]), (0.1, 0.5, 0.9))
        kept = [tall[1]] + [value for value in tall[[0, 2]] if abs(value - tall[1]) > 0.15]
        return cls(tuple(strides), sizes, tuple(round(float(np.exp(value)), 2) for value in sorted(kept)))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Geometry:
        """Of ``vars`` of one that went through JSON."""
        sizes = tuple(tuple(level) for level in facts["sizes"])
        return cls(tuple(facts["strides"]), sizes, tuple(facts["ratios"]))


class Pyramid(nn.Module):
    """Maps of a timm model at some strides, under a feature pyramid (Lin et al., 2017) of as many channels each.

    Args:
        body: of timm, with ``features_only``. strides: of the maps; those that the body has not are pooled.
    """

    def __init__(self, body: nn.Module, strides: tuple[int, ...], channels: int) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.body, self.out_channels = body, channels
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), channels)
        self.pooled = len(strides) - len(body.feature_info.channels())

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.fpn(OrderedDict((str(i), one) for i, one in enumerate(self.body(x))))
        for _ in range(self.pooled):
            maps[str(len(maps))] = nn.functional.max_pool2d(next(reversed(maps.values())), 1, 2)
        return maps


class Steps(nn.Module):
    """Maps of a timm model at some strides as they are, and blocks of half the size behind them, as SSDLite has them
    (Sandler et al., 2018)."""

    def __init__(self, body: nn.Module, strides: tuple[int, ...]) -> None:
        from torchvision.models.detection.ssdlite import _extra_block

        super().__init__()
        found = body.feature_info.channels()
        self.body, self.extra = body, nn.ModuleList()
        for _ in range(len(strides) - len(found)):
            self.extra.append(_extra_block(found[-1], 2 * CHANNELS, _norm))
            found.append(2 * CHANNELS)
        self.out_channels = found

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        maps = list(self.body(x))
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(i), one) for i, one in enumerate(maps))


_norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


# --- detectors --------------------------------------------------------------------------------------------------------
def _plain(size: int) -> dict:
    """Arguments by which torchvision neither normalises nor scales: the pipeline has done it."""
    kept = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "_skip_resize": True}
    return kept | {"min_size": size, "max_size": size}


def _fcos(body: nn.Module, classes: int, geometry: Geometry, size: int) -> nn.Module:
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead

    anchors = AnchorGenerator(tuple((stride,) for stride in geometry.strides), ((1.0,),) * len(geometry.strides))
    backbone = Pyramid(body, geometry.strides, CHANNELS)
    return FCOS(
        backbone, classes, anchor_generator=anchors, head=FCOSHead(CHANNELS, 1, classes, CONVS), score_thresh=SCORE,
        nms_thresh=OVERLAP, detections_per_img=MOST_BOXES, **_plain(size),
    )  # fmt: skip


def _retinanet(body: nn.Module, classes: int, geometry: Geometry, size: int) -> nn.Module:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNetHead

    anchors = AnchorGenerator(geometry.sizes, (geometry.ratios,) * len(geometry.strides))
    head = RetinaNetHead(CHANNELS, anchors.num_anchors_per_location()[0], classes, functools.partial(nn.GroupNorm, 32))
    return RetinaNet(
        Pyramid(body, geometry.strides, CHANNELS), classes, anchor_generator=anchors, head=head, score_thresh=SCORE,
        nms_thresh=OVERLAP, detections_per_img=MOST_BOXES, **_plain(size),
    )  # fmt: skip


def _faster_rcnn(body: nn.Module, classes: int, geometry: Geometry, size: int) -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    levels = len(geometry.strides)
    anchors, wide = AnchorGenerator(geometry.sizes, (geometry.ratios,) * levels), 4 * CHANNELS
    return FasterRCNN(
        Pyramid(body, geometry.strides, CHANNELS), rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign([str(i) for i in range(levels)], 7, 2),
        box_head=TwoMLPHead(CHANNELS * 7**2, wide), box_predictor=FastRCNNPredictor(wide, classes),
        rpn_pre_nms_top_n_train=1000, rpn_post_nms_top_n_train=500, rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300, box_batch_size_per_image=128, box_score_thresh=SCORE, box_nms_thresh=OVERLAP,
        box_detections_per_img=MOST_BOXES, **_plain(size),
    )  # fmt: skip


def _ssdlite(body: nn.Module, classes: int, geometry: Geometry, size: int) -> nn.Module:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD
    from torchvision.models.detection.ssdlite import SSDLiteHead

    backbone = Steps(body, geometry.strides)
    scales = [sizes[0] / size for sizes in geometry.sizes] + [geometry.sizes[-1][1] / size]
    wide = sorted({round(max(r, 1 / r), 2) for r in geometry.ratios if abs(np.log(r)) > 0.15})
    anchors = DefaultBoxGenerator([wide] * len(geometry.strides), scales=scales, steps=list(geometry.strides))
    head = SSDLiteHead(backbone.out_channels, anchors.num_anchors_per_location(), classes, _norm)
    plain = {key: value for key, value in _plain(size).items() if key not in ("min_size", "max_size")}
    return SSD(
        backbone, anchors, (size, size), classes, head=head, score_thresh=SCORE, nms_thresh=OVERLAP,
        detections_per_img=MOST_BOXES, **plain,
    )  # fmt: skip


DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "fcos": _fcos, "retinanet": _retinanet, "ssdlite": _ssdlite, "faster_rcnn": _faster_rcnn,
}  # fmt: skip
ANSWERING = {"faster_rcnn": ("backbone", "rpn.head", "roi_heads.box_predictor")}
NEW_PARTS = {"faster_rcnn": ("backbone.fpn", "rpn", "roi_heads"), "ssdlite": ("backbone.extra", "head")}


def build(
    name: str, classes: int, detector: str, geometry: Geometry, size: int, weights: str | None = None
) -> tuple[nn.Module, str]:
    """(model, one sentence on where its weights come from): as torchvision's detectors it takes a list of images
    [3, size, size], and in training {"boxes", "labels"} of each, with labels from 1 on; it makes losses then, and else
    {"boxes", "scores", "labels"}.

    ``name``: of a timm model, which is the backbone. ``weights``: a file of a whole detector that a run saved, or of a
    classifier, whose backbone is taken; "pretrained" for timm's own; None for random ones.
    Raises ValueError for names that there are not, and weights that are not this model's.
    """
    if detector not in DETECTORS:
        raise ValueError(f"there is no detector {detector!r}; {', '.join(DETECTORS)}{meant(detector, DETECTORS)}")
    model = DETECTORS[detector](_body(name, geometry, weights == models.PRETRAINED), classes + 1, geometry, size)
    new = NEW_PARTS.get(detector, ("backbone.fpn", "head"))
    new = tuple(part for part in new if list(model.get_submodule(part).parameters()))
    model.pretrained_cfg = {"classifier": new}
    for part in ANSWERING.get(detector, ("backbone", "head")):
        model.get_submodule(part).register_forward_hook(_in_float32)
    if weights is None:
        return model, "random weights"
    if weights == models.PRETRAINED:
        return model, f"timm's pretrained weights in the backbone, {models.NEW}"
    return model, models.fill_around(
        model, model.backbone.body, Path(weights), name, models.head_prefixes(model), "backbone"
    )


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """A forward hook: places are told exactly in mixed precision, too; bfloat16 has every second pixel beyond 256."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, dict):
        return type(outputs)((key, _in_float32(module, inputs, one)) for key, one in outputs.items())
    return type(outputs)(_in_float32(module, inputs, one) for one in outputs)


def _body(name: str, geometry: Geometry, pretrained: bool) -> nn.Module:
    """The maps of a timm model at the strides that it has. Raises ValueError for one that has none."""
    import timm

    models.card(name)  # an unknown name ends here
    if name == models.SMALL or ":" in name:
        raise ValueError(f"model {name}: the backbone of a detector is one of timm's, such as tf_efficientnet_lite0")
    try:
        strides = timm.create_model(name, features_only=True).feature_info.reduction()
        places = [i for i, stride in enumerate(strides) if stride in geometry.strides]
        found = [strides[i] for i in places]
        if tuple(found) != geometry.strides[: len(found)] or not found:
            raise ValueError(f"it has maps at strides {strides}, and {list(geometry.strides)} are wanted")
        return timm.create_model(name, features_only=True, out_indices=places, pretrained=pretrained)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, AssertionError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name}: it cannot be the backbone of a detector here ({reason})") from error


# --- candidates -------------------------------------------------------------------------------------------------------
def check_candidates(model: nn.Module) -> None:
    """Raises ValueError for a detector of which :func:`candidates` are not known."""
    if type(model).__name__ not in ("FCOS", "RetinaNet", "SSD"):
        raise ValueError(
            f"export: {type(model).__name__} chooses among its candidates inside, and their number is not fixed; fcos, "
            "retinanet and ssdlite can be exported"
        )


def candidates(model: nn.Module, x: Tensor) -> Tensor:
    """Boxes and scores of all places, [B, N, 4 + K], of a detector of torchvision with one stage and images
    [B, 3, H, W]; boxes are cut at the border. Raises ValueError for any other."""
    from torchvision.models.detection.image_list import ImageList

    check_candidates(model)
    height, width = x.shape[-2:]
    maps = list(model.backbone(x).values())
    made = model.head(maps)
    places = model.anchor_generator(ImageList(x[:1], [(height, width)]), maps)[0]
    kind, moves = type(model).__name__, made["bbox_regression"]
    if kind == "FCOS":
        corners = model.box_coder.decode(moves, places)
        scores = (made["cls_logits"].sigmoid() * made["bbox_ctrness"].sigmoid()).sqrt()[..., 1:]
    else:
        corners = _decoded(moves, places, model.box_coder.weights)
        logits = made["cls_logits"]
        scores = (logits.sigmoid() if kind == "RetinaNet" else logits.softmax(-1))[..., 1:]
    limits = corners.new_tensor([width, height, width, height])
    return torch.cat([torch.minimum(corners.clamp(min=0), limits), scores], -1)


def _decoded(moves: Tensor, places: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Corners [B, N, 4] of anchors [N, 4] moved by [B, N, 4], as torchvision's BoxCoder has it."""
    import math

    sides, middle = places[:, 2:] - places[:, :2], (places[:, 2:] + places[:, :2]) / 2
    moves = moves / moves.new_tensor(weights)
    centre = moves[..., :2] * sides + middle
    half = moves[..., 2:].clamp(max=math.log(1000.0 / 16)).exp() * sides / 2
    return torch.cat([centre - half, centre + half], -1)
