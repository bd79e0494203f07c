"""`gpuaug predict` over a folder of photos, against decoding alone and the model alone.

    python -m gpuaug.benchmarks.predicting FOLDER_OF_PHOTOS [--weights FOLDER] [--device auto] [--out FILE.json]
    python -m gpuaug.benchmarks.predicting FOLDER_OF_PHOTOS --names 96 --rounds 1    # a trial

The photos are linked to 1,000 names. In turns, a round each: all photos decoded as far as the model needs them, and
dropped; the model alone on batches that lie in memory; and predict, from files to answers. Of each the wall time an
image and, of this process with all its threads, the CPU time. Models: EfficientNet-Lite0 at 224 pixels, with ImageNet's
weights, and ResNet-20 at 32, whose own work is small. Ratios of medians:

- images a second against the slower one of decoding and the model: 0.9 is the target. Where both need the same cores
  no program gets there if both take long;
- against what the cores allow: each image costs decoding's and the model's CPU time, on so many cores. Not of a GPU;
- CPU time of decoding and the model together against that of predict, which other programs on the machine distort less.

On a machine that others use, set OMP_WAIT_POLICY=passive: threads of torch that wait for one that has no core spin, and
that counts as CPU time.

It writes benchmarks/results/predicting-NAME.json.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gpuaug.data import folder
from gpuaug.data.batches import Batch
from gpuaug.data.feed import Feed, Turn
from gpuaug.data.hands import Hands
from gpuaug.finetune import models
from gpuaug.finetune.predictions import Asked
from gpuaug.finetune.saved import About, Classifier, chosen_device

from . import RESULTS
from .feeding import linked
from .run import commit, file_name, machine, versions
from .scaled import photos_in

TARGET = 0.9
WHOLE = {"names": 1000, "rounds": 5, "workers": 2}
IN_MEMORY = 4  # batches that the model alone gets in turn
MODELS = {  # name: (file of its weights, classes, size, resize)
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0_imagenet.safetensors", 1000, 224, 256),
    "resnet20": ("resnet20_cifar10.safetensors", 10, 32, 32),
}


def classifier(name: str, weights: Path, device: torch.device) -> Classifier:
    file, classes, size, resize = MODELS[name]
    model, _ = models.build(name, classes, str(weights / file))
    card, names = models.card(name), tuple(map(str, range(classes)))
    about = About(name, "full", names, False, size, resize, card.interpolation, card.mean, card.std)
    return Classifier(model, about).to(device, memory_format=models.layout(device))


def waited(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def decoding(asked: Asked, source) -> None:
    """What the model needs of each photo is decoded, and dropped."""
    loader = asked.loader(source)
    order, maker, size = loader.order(0), loader._maker, loader.batch_size
    parts = [order[at : at + size] for at in range(0, len(order), size)]
    hands = [Hands(source.items) for _ in range(max(loader.workers, 1))]

    def make(n: int, turn: Turn) -> Batch:
        return maker.make(parts[n], 0, turn, hands[turn.thread])

    for batch in Feed(make, len(parts), loader.workers, loader.workers + 2):
        maker.rooms.append(batch.room)


def model_alone(asked: Asked, batches: list[torch.Tensor], names: int) -> None:
    """On as many images, from logits to probabilities on the host."""
    done = 0
    with torch.no_grad():
        while done < names:
            for x in batches:
                x = x[: names - done]
                if len(x):
                    asked.model.probabilities(asked.model.model(x)).cpu()
                    done += len(x)


def timed(run: Callable[[], object], names: int, device: torch.device) -> tuple[float, float]:
    """(wall, CPU) seconds an image."""
    waited(device)
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    waited(device)
    return (time.perf_counter() - wall) / names, (time.process_time() - cpu) / names


def measured(model: Classifier, root: Path, rounds: int, workers: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) of each way in each round, the first of which does not count."""
    asked = Asked(model, workers=workers)
    source, names = asked.listed(root)
    loader = asked.loader(source)
    batches = [x for x, *_ in itertools.islice(loader, IN_MEMORY)]
    made = []

    def predicted() -> None:
        made[:] = asked.gathered(source, asked.stream(source, names)).made

    ways = {"decoding": lambda: decoding(asked, source), "model": lambda: model_alone(asked, batches, len(names))}
    ways["predict"] = predicted
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            seconds = timed(run, len(names), model.device)
            if number:
                found[name].append(seconds)
    if [one.path for one in made] != names or any(one.error for one in made):
        raise SystemExit("predict has left photos out, or out of order: its times are worth nothing")
    return found


def ratios(found: dict[str, list[tuple[float, float]]], device: torch.device, cores: int) -> dict[str, float]:
    """What the head of this file names."""
    wall, cpu = ({way: statistics.median(one[i] for one in values) for way, values in found.items()} for i in (0, 1))
    both = cpu["decoding"] + cpu["model"]
    told = {"predict over the slower part": max(wall["decoding"], wall["model"]) / wall["predict"]}
    if device.type == "cpu":
        told["predict over what the cores allow"] = max(both / cores, *(wall[way] for way in ("decoding", "model")))
        told["predict over what the cores allow"] /= wall["predict"]
        told["CPU time of the parts over predict's"] = both / cpu["predict"]
    return told


def show(name: str, found: dict[str, list[tuple[float, float]]], told: dict[str, float]) -> None:
    """A model's lines."""
    print(f"{name}:")
    for way, values in found.items():
        wall, cpu = (statistics.median(one[i] for one in values) for i in (0, 1))
        print(f"  {way:38s} {1 / wall:8,.0f} images/s {1e3 * cpu:8.2f} ms of CPU an image")
    for what, value in told.items():
        target = f"  (target {TARGET:g}: {'met' if value >= TARGET else 'MISSED'})" * (what == next(iter(told)))
        print(f"  {what:38s} {value:8.2f}{target}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--weights", type=Path, help="a folder; by default ../weights beside the photos' folder")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--device", default="auto", help="where the model is: auto, cpu, cuda")
    parser.add_argument("--out", type=Path, help="the JSON file; by default named after the machine, for a whole run")
    for name, value in WHOLE.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args(argv)
    given.weights = given.weights or given.photos.parent.parent / "weights"
    lacking = [MODELS[name][0] for name in given.models if not (given.weights / MODELS[name][0]).is_file()]
    if lacking:
        parser.error(f"--weights: there is no {lacking[0]} in {given.weights}")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given, load = arguments(argv), os.getloadavg()[0]
    device, found, told = chosen_device(given.device), {}, {}
    known = machine(device, torch.get_num_threads())
    with tempfile.TemporaryDirectory() as place:
        root = linked(photos_in(given.photos), Path(place) / "photos", given.names)
        assert len(folder(root, labelled=False)) == given.names
        print(f"load before: {load:.1f} on {known['cores']} cores; {given.names} photos, {given.rounds} rounds")
        for name in given.models:
            model = classifier(name, given.weights, device)
            found[name] = measured(model, root, given.rounds, given.workers)
            told[name] = ratios(found[name], device, known["cores"])
            show(name, found[name], told[name])
    result = {
        "machine": known | {"load_before": load, "load_after": os.getloadavg()[0]},
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": {name: getattr(given, name) for name in WHOLE},
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "wall_and_cpu_seconds_an_image": found,
        "ratios": told,
        "target": TARGET,
    }
    whole = result["settings"] == WHOLE and given.models == list(MODELS)
    out = given.out or (RESULTS / f"predicting-{file_name(known)}" if whole else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {out}")


if __name__ == "__main__":
    main()
