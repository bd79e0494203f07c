"""Pictures of a result file: throughput as batch and size grow, the distance to the copy bandwidth, a training step.

python -m gpuaug.benchmarks.plots RESULT.json [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from . import report, scaling  # noqa: E402

COLOURS = {
    "gpuaug": "#d95f02",
    "torchvision": "#1f6fb4",
    "kornia": "#4d9e6a",
    "albumentations": "#7b5ea7",
    "timm": "#b8860b",
    "fuse_augmentations": "#c2484d",
    "dali": "#76b900",
    "cvcuda": "#2a9d8f",
    "cv-cuda": "#2a9d8f",
    "nvidia.dali": "#76b900",
    "triton_augment": "#b0437c",
}
REST = "#6b7280"
AXES = {
    "batch": ("batch, images of 224 x 224", "log"),
    "pixels": ("side of the image, pixels", "log"),
    "ops": ("colour ops", "linear"),
    "threads": ("threads", "linear"),
}


def _finish(axis, xlabel: str, ylabel: str, title: str) -> None:
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, axis="both", color="#e5e7eb", linewidth=0.8)
    axis.set_axisbelow(True)


def growth(result: Mapping):
    """Images a second along each axis of `scaling`."""
    names = [name for name in AXES if any(e["axis"] == name for e in result["scaling"])]
    figure, panels = plt.subplots(1, len(names), figsize=(3.6 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(panels[0], names, strict=True):
        providers = dict.fromkeys(e["provider"] for e in result["scaling"] if e["axis"] == name)
        for provider in providers:
            x, y = zip(*scaling.growth(result["scaling"], name, provider), strict=True)
            colour = next((c for library, c in COLOURS.items() if provider.startswith(library)), REST)
            axis.plot(x, y, "o-", color=colour, markersize=4, label=provider)
        x, _ = zip(*scaling.growth(result["scaling"], name), strict=True)
        label, kind = AXES[name]
        axis.set_xscale(kind)
        if kind == "log":
            axis.minorticks_off()
        if name == "pixels" or len(providers) > 1:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.set_xticks(x, [str(v) for v in x], fontsize=8)
        _finish(axis, label, "images/s" if name == names[0] else "", f"as {name} grow" + "s" * (name == "batch"))
    handles, labels = panels[0][0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=len(labels))
    return figure


def distance(result: Mapping):
    """For each case, the share of the copy bandwidth that each provider reaches."""
    cases = [c for c in result["cases"] if any(r["status"] == "timed" for r in c["rows"])]
    figure, axis = plt.subplots(figsize=(8, 0.55 * len(cases) + 1.4), layout="constrained")
    seen: set[str] = set()
    for y, case in enumerate(reversed(cases)):
        for row in (r for r in case["rows"] if r["status"] == "timed" and report.is_equal(r)):
            ours, colour = row["library"] == "gpuaug", COLOURS.get(row["library"], REST)
            name = f"gpuaug, backend {row['provider'].removeprefix('gpuaug-')}" if ours else row["library"]
            face = "none" if row["provider"] == "gpuaug-kornia" else colour
            label = None if name in seen else name
            seen.add(name)
            size = 60 if ours else 28
            axis.scatter(row["percent_of_copy"], y, s=size, facecolor=face, edgecolor=colour, label=label, zorder=3)
    axis.axvline(100, color=REST, linewidth=1, linestyle="--")
    axis.set_xscale("log")
    axis.set_yticks(range(len(cases)), [c["name"] for c in reversed(cases)], fontsize=9)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    title = f"bytes that must move, at {result['copy_gb_s']:.1f} GB/s of copying = 100%"
    _finish(axis, "share of the copy bandwidth, %", "", title)
    return figure


def share(result: Mapping):
    """The share of a training step that augmenting its batch takes, by provider."""
    step = result["step"]
    case = next(c for c in result["cases"] if c["name"] == "cifar")
    rows = [r for r in case["rows"] if r["status"] == "timed" and report.is_equal(r)]
    times = sorted(
        ((r["provider"], step["batch"] / r["images_s"] * 1e3, r["library"]) for r in rows), key=lambda t: -t[1]
    )
    figure, axis = plt.subplots(figsize=(7, 0.4 * len(times) + 1.3), layout="constrained")
    for y, (_, milliseconds, library) in enumerate(times):
        percent = 100 * milliseconds / (milliseconds + step["median_ms"])
        axis.barh(y, percent, color=COLOURS.get(library, REST), height=0.6)
        axis.text(percent, y, f" {percent:.2g}%", va="center", fontsize=8)
    axis.set_yticks(range(len(times)), [name for name, _, _ in times], fontsize=9)
    axis.margins(x=0.12)
    title = (
        f"{step['model']}, batch {step['batch']} of {step['size']} x {step['size']}: {step['median_ms']:.1f} ms a step"
    )
    _finish(axis, "share of augmentation in a step, %", "", title)
    return figure


PICTURES = {"growth": growth, "distance": distance, "share": share}


def draw(result: Mapping, stem: str, folder: Path) -> list[Path]:
    """Write the pictures `folder/stem-growth.png`, ... that the result has figures for; returns their paths."""
    missing = {"growth": not result["scaling"], "share": result["step"] is None}
    cifar = [r for c in result["cases"] if c["name"] == "cifar" for r in c["rows"] if r["status"] == "timed"]
    missing["share"] = missing["share"] or not cifar
    missing["distance"] = not any(r["status"] == "timed" for c in result["cases"] for r in c["rows"])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in PICTURES.items():
        if missing[name]:
            continue
        figure = picture(result)
        paths.append(folder / f"{stem}-{name}.png")
        figure.savefig(paths[-1], dpi=144)
        plt.close(figure)
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a result file's pictures; the exit status is 1 if it breaks the schema."""
    parser = argparse.ArgumentParser(prog="gpuaug.benchmarks.plots", description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, help="a folder; by default that of the result")
    args = parser.parse_args(argv)
    result = json.loads(args.result.read_text(encoding="utf-8"))
    if found := report.problems(result):
        print(f"{args.result}: not a result of benchmarks.run: {'; '.join(found)}", file=sys.stderr)
        return 1
    for path in draw(result, args.result.stem, args.out or args.result.parent):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
