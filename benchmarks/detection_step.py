"""What share of a detector's training step is augmentation, under large-scale jitter.

    python -m benchmarks.detection_step [FOLDER] [--size 320] [--batch 8] [--out FILE.json]

An FCOS on tf_efficientnet_lite0, the small model that ``gpuaug finetune`` takes for detection: the smaller the model,
the larger the share. FOLDER has images with boxes (COCO's JSON or VOC's XML), by default blood_cells/train in
$GPUAUG_DATA. Images are decoded before, so that what is timed is

- step: forward, losses, backward and AdamW on a batch that is there already;
- feed: a batch of BoxFeed, which is the Loader with its order, boxes and labels, and the preset detection_lsj;
- pipeline: the preset alone on the same images, boxes and labels; images: on the images alone;
- torchvision: transforms.v2's own ops of the recipe, image by image, as its reference training calls them.

They take turns; figures are medians. The share is feed / (feed + step): without any overlap, though a GPU would have
one; by the wall clock, and by the processor time of all threads, which other work on the machine hardly changes. Apart
from it, how long decoding the same files takes (files: a streamed batch, by the threads of a loader).
A run takes 4 minutes on two idle cores and writes results/detection_step-NAME.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin would count as work

import numpy as np
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Loader, Source
from gpuaug.data.annotated import coco, voc
from gpuaug.data.annotated_parts import kind_of
from gpuaug.finetune.detect import geometry_of, wanted
from gpuaug.finetune.detectors import build
from gpuaug.finetune.feed_boxes import BoxFeed

from . import RESULTS, ROOT, timing
from .run import commit, file_name, machine, versions

MODEL, DETECTOR, RECIPE = "tf_efficientnet_lite0", "fcos", "detection_lsj"
TARGET = 0.05
IMAGES = 64  # that are kept decoded
WHOLE = {"size": 320, "batch": 8}  # as the runner has it
EFFORT = timing.Effort(rounds=20, least=4, slice_s=0.0, share_s=90.0)
CLOCKS = {"median_ms": "wall clock", "processor_ms": "processor time"}


def stepping(source: Source, size: int, images: Tensor, targets: list[dict[str, Tensor]]) -> Callable[[int], Tensor]:
    """A training step of the detector on one batch."""
    torch.manual_seed(0)
    model, _ = build(MODEL, len(source.classes), DETECTOR, geometry_of(source, size), size)
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-3)
    inputs = list(images), wanted(targets)

    def step(_: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = sum(model(*inputs).values())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torchvisions(size: int) -> Callable:
    """The recipe by torchvision's transforms, on an image and its boxes and labels."""
    from torchvision.transforms import v2

    fill = tuple(round(255 * m) for m in ga.IMAGENET_MEAN)
    return v2.Compose(
        [
            v2.ScaleJitter((size, size), antialias=True),
            v2.RandomCrop(size, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
            v2.SanitizeBoundingBoxes(),
        ]
    )


def endless(feed: BoxFeed) -> Iterator[tuple]:
    while True:
        yield from feed


def fed(source: Source, size: int, batch: int, **keywords) -> BoxFeed:
    """Batches under the recipe."""
    augment = presets.get(RECIPE, size=size, seed=0)
    return BoxFeed(Loader(source, batch, augment, shuffle=True, drop_last=True, **keywords), size)


def calls(source: Source, size: int, batch: int) -> dict[str, Callable[[int], object]]:
    """What is timed, by name."""
    from torchvision import tv_tensors

    resident, alone = endless(fed(source, size, batch, resident=True)), presets.get(RECIPE, size=size, seed=0)
    raw, _, beside, ids = next(iter(Loader(source, batch)))
    objects = {"labels": beside["labels"]}
    images, targets, _ = next(resident)
    peer = torchvisions(size)
    samples = [
        (tv_tensors.Image(image), {"boxes": _boxes(tv_tensors, boxes, image), "labels": labels})
        for image, boxes, labels in zip(raw, beside["boxes"], beside["labels"], strict=True)
    ]
    numbers = iter(range(1, 1 << 31))
    return {
        "step": stepping(source, size, images, targets),
        "feed": lambda _: next(resident),
        "pipeline": lambda _: alone(raw, boxes=beside["boxes"], objects=objects, ids=ids, epoch=next(numbers)),
        "images": lambda _: alone(raw, ids=ids, epoch=next(numbers)),
        "torchvision": lambda _: torch.stack([peer(*sample)[0] for sample in samples]),
    }


def _boxes(tv_tensors, boxes: Tensor, image: Tensor):
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[1:]))


class Worked:
    """A call, and the processor seconds of all threads that each of its calls took."""

    def __init__(self, call: Callable[[int], object]):
        self.call, self.seconds = call, []

    def __call__(self, i: int) -> object:
        begun = time.process_time()
        found = self.call(i)
        self.seconds.append(time.process_time() - begun)
        return found


def check(source: Source, size: int, batch: int) -> None:
    """Raise unless the feed gives what the pipeline makes of the images, boxes and labels, to the bit."""
    augment = presets.get(RECIPE, size=size, seed=0)
    images, targets, ids = next(iter(fed(source, size, batch, resident=True)))
    place = {id: i for i, id in enumerate(source.ids.tolist())}
    some = source.subset([place[id] for id in ids.tolist()])
    raw, _, beside, _ = next(iter(Loader(some, batch)))
    objects = {"labels": beside["labels"]}
    again, boxes, found = augment(list(raw), boxes=beside["boxes"], objects=objects, ids=ids, epoch=0)
    same = torch.equal(images, again) and all(
        torch.equal(target["boxes"], box) and torch.equal(target["labels"], label)
        for target, box, label in zip(targets, boxes, found["labels"], strict=True)
    )
    if not same:
        raise RuntimeError("the feed does not give what the pipeline makes of the same images")


def main(argv: Sequence[str] | None = None) -> None:
    given, load = arguments(argv), os.getloadavg()[0]
    torch.set_num_threads(given.threads)
    source = opened(given.folder)
    check(source, given.size, given.batch)
    begun = time.perf_counter()
    worked = {name: Worked(call) for name, call in calls(source, given.size, given.batch).items()}
    effort = dataclasses.replace(EFFORT, seconds=given.seconds)
    timed = timing.interleave(worked, 1, torch.device("cpu"), effort)
    streamed = endless(fed(source, given.size, given.batch, workers=given.threads))  # by itself: it decodes ahead
    worked["files"] = Worked(lambda _: next(streamed))
    timed |= timing.interleave({"files": worked["files"]}, 1, torch.device("cpu"), effort)
    figures = {name: timing.spread(seconds) | {"calls": len(seconds)} for name, (seconds, _) in timed.items()}
    for name, one in figures.items():
        one["processor_ms"] = 1e3 * float(np.median(worked[name].seconds[-one["calls"] :]))
    share = {clock: _shares({name: one[clock] for name, one in figures.items()}) for clock in CLOCKS}
    shapes = [known.boxes.shape[0] for known in source.targets]
    result = {
        "machine": machine(torch.device("cpu"), given.threads) | {"load_before": load},
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": {"size": given.size, "batch": given.batch, "model": MODEL, "detector": DETECTOR, "recipe": RECIPE},
        "images": {"folder": given.folder.name, "number": len(source), "boxes_each": float(np.mean(shapes))},
        "figures": figures,
        "share": share,
        "target": TARGET,
        "seconds": time.perf_counter() - begun,
    }
    print(f"load before: {load:.1f} on {os.cpu_count()} cores; batches of {given.batch} at {given.size} pixels")
    for name, one in figures.items():
        print(
            f"{name:12s} {one['median_ms']:9.1f} ms ({one['p20_ms']:.1f} to {one['p80_ms']:.1f}, {one['calls']} calls)"
        )
    for clock, words in CLOCKS.items():
        its = share[clock]
        met = "met" if its["feed"] <= TARGET else "MISSED"
        print(f"share of a step by the {words}: feed {its['feed']:.1%} (target {TARGET:.0%}: {met})")
        print(f"{'':4s}the pipeline alone {its['pipeline']:.1%}, torchvision's transforms {its['torchvision']:.1%}")
    whole = all(getattr(given, name) == value for name, value in WHOLE.items())
    out = given.out or (RESULTS / f"detection_step-{file_name(result['machine'])}" if whole else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {out}")


def _shares(taken: dict[str, float]) -> dict[str, float]:
    return {name: taken[name] / (taken[name] + taken["step"]) for name in ("feed", "pipeline", "torchvision")}


def opened(folder: Path) -> Source:
    """Some images with boxes, evenly spaced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a few boxes does not matter here
        source = (voc if kind_of(folder) == "voc" else coco)(folder)
    return source.subset(np.linspace(0, len(source) - 1, min(IMAGES, len(source))).astype(int))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("folder", type=Path, nargs="?", default=data / "blood_cells" / "train")
    for name, value in WHOLE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=150.0, help="that are timed, behind four rounds at least")
    parser.add_argument("--out", type=Path, help="the JSON file; by default named after the machine, for a whole run")
    given = parser.parse_args(argv)
    if kind_of(given.folder) not in ("coco", "voc"):
        parser.error(f"{given.folder}: no images with boxes; set GPUAUG_DATA, or name a folder")
    return given


if __name__ == "__main__":
    main()
