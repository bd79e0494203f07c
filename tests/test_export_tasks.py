"""Exports of segmenters, detectors and clip classifiers as ONNX: what ONNX Runtime answers is what the model does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

for needed in ("timm", "torchvision", "segmentation_models_pytorch", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason=f"an extra is not installed: {needed}")

import onnxruntime  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.finetune import detectors, segmenters, video_model  # noqa: E402
from gpuaug.finetune.saved import About, Saved  # noqa: E402
from gpuaug.finetune.saved_boxes import Detector  # noqa: E402
from gpuaug.finetune.saved_pixels import Segmenter  # noqa: E402
from gpuaug.finetune.saved_video import ClipClassifier  # noqa: E402

GEOMETRY = detectors.Geometry((16, 32), ((10, 14), (20, 28)), (0.7, 1.4))


def about(name: str, task: str, size: int, **details) -> About:
    known = {"several": False, "resize": None, "interpolation": "bilinear", "mean": ga.IMAGENET_MEAN, "recipe": "full"}
    return About(name, classes=("a", "b", "c"), size=size, std=ga.IMAGENET_STD, task=task, details=details, **known)


def detector(kind: str) -> Detector:
    torch.manual_seed(0)
    model, _ = detectors.build("test_resnet", 3, kind, GEOMETRY, 64)
    for parameter in model.head.parameters() if hasattr(model, "head") else ():
        nn.init.normal_(parameter, std=0.1)  # else all scores are alike
    return Detector(model, about("test_resnet", "detect", 64, detector=kind))


def checked(model: Saved, path: Path, *sizes: int) -> Tensor:
    """Export, run on batches of other sizes in ONNX Runtime, compare; returns the last answers."""
    done = model.export(path)
    assert done.format == "onnx" and done.images and path.stat().st_size > 10_000
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in sizes:
        x = torch.rand(n, *model.shape, generator=torch.Generator().manual_seed(n))
        answer = torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
        with torch.no_grad():
            wanted = model(x)
        assert len(wanted) == n and wanted.std() > 1e-3
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-3)
    return answer


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "ssdlite"])
def test_a_detector(kind, tmp_path):
    """Boxes and scores of all places."""
    found = checked(detector(kind), tmp_path / "model.onnx", 1, 3)
    corners, scores = found[..., :4], found[..., 4:]
    assert scores.shape[2] == 3 and scores.min() >= 0 and scores.max() <= 1 and scores.std() > 0.01
    assert corners.min() >= 0 and corners.max() <= 64 and (corners[..., 2:] - corners[..., :2]).max() > 2


def test_a_detector_of_two_stages_is_refused_in_one_line(tmp_path):
    words = "export: FasterRCNN chooses among its candidates inside, and their number is not fixed; fcos, retinanet"
    for name in ("model.onnx", "model.pt2"):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}") as told:
            detector("faster_rcnn").export(tmp_path / name)
        assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3"])
def test_a_segmenter(decoder, tmp_path):
    """One of segmentation_models_pytorch, one of torchvision."""
    torch.manual_seed(0)
    model, _ = segmenters.build("test_resnet", 3, decoder)
    saved = Segmenter(model, about("test_resnet", "segment", 64, decoder=decoder))
    assert checked(saved, tmp_path / "model.onnx", 1, 3).shape == (3, 3, 64, 64)


@pytest.mark.parametrize(("name", "pooling"), [("resnet20", "mean"), ("patches", "correlation")])
def test_a_model_of_clips(name, pooling, tmp_path):
    torch.manual_seed(0)
    model, _ = video_model.video_model(name, 3, pooling=pooling, size=32)
    details = {"frames": 5, "stride": 1, "pooling": pooling, "clips_per_video": 1}
    assert checked(ClipClassifier(model, about(name, "video", 32, **details)), tmp_path / "m.onnx", 1, 3).shape == (
        3,
        3,
    )
