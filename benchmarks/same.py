"""Two commits against each other in one run: do they give the same values, to the bit?

    python -m gpuaug.benchmarks.same OLD [NEW] [--count 2000] [--interpreted 200] [--backends cpu,kornia] [--seed 0]
    python -m gpuaug.benchmarks.same OLD [NEW] --only NUMBER [--backends cpu]

NEW defaults to the files as they are. Random cases (`random_cases`) run in both, each in a process of its own over its
own `gpuaug`; Triton's in its interpreter, on tiny images. What is drawn, described and written must be equal: shape,
dtype, strides and bits, where one NaN is as good as another; and a case that raises must raise the same in both.
Nothing is kept: processors differ in the last bits. What the cpu engine compiles is kept where NUMBA_CACHE_DIR says.
`--only` shows one case, and where it differs. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga

from .commits import Side, unpack
from .random_cases import Case, Input, case_of, laid

BACKENDS = ("cpu", "kornia", "triton")
TOLD = 8  # differing cases that are named at the end
PLACES = 4  # differing elements that are shown of a tensor
EVERY = 100
BESIDE = 7.0  # what a buffer holds before it is written


# --- a side: what a case gives ----------------------------------------------------------------------------------------
def values_of(case: Case, backend: str) -> dict[str, Any]:
    """All that the case gives, tensors and text, by names "input.what"; and what it raises where it stops.

    Nothing of a large case but on cpu: elsewhere it would take minutes.
    """
    found: dict[str, Any] = {}
    if case.large and backend != "cpu":
        return found
    torch.set_num_threads(case.threads)
    try:
        augment = ga.Compose(case.transforms, seed=case.seed, backend=backend, memory_format=case.memory_format)
        for i, one in enumerate(case.inputs):
            try:
                for name, value in _calls(case, augment, one, backend):
                    found[f"{i}.{name}"] = value
            except Exception as error:
                found[f"{i}.raised"] = f"{type(error).__name__}: {error}"
    except Exception as error:
        found["raised"] = f"{type(error).__name__}: {error}"
    return found


def _calls(case: Case, augment: ga.Compose, one: Input, backend: str) -> Iterator[tuple[str, Any]]:
    images = one.images()
    params = augment.sample(images, ids=one.ids, epoch=one.epoch)
    yield "table", params.table
    yield "columns", repr(params.columns)
    yield "described", repr([[_plain(record) for record in params.describe(i)] for i in range(len(params))])
    applied = augment.apply(images, params)
    yield "applied", applied
    yield "called", augment(images, ids=one.ids, epoch=one.epoch)
    if one.out:
        place = applied if applied.dim() == 4 else applied[None]
        place = laid(torch.full_like(place, BESIDE), one.out, one.order, one.axis)
        augment.apply(images, params, out=place if applied.dim() == 4 else place[0])
        yield "written", place
        yield "beside", place if place._base is None else place._base
    if one.counted:
        yield "counted", augment(images)
        yield "state", augment.get_extra_state()
    if one.grad and backend == "kornia":
        leaf = images.detach().clone().requires_grad_()
        augment(leaf, ids=one.ids, epoch=one.epoch).float().square().sum().backward()
        yield "gradient", leaf.grad
    if case.replayed:
        torch.manual_seed(one.seed)  # of noise without seeds
        image = images if images.dim() == 3 else images[0]
        for i, record in enumerate(params.describe(0)):
            if hasattr(ga.functional, record["call"]):
                image = getattr(ga.functional, record["call"])(image, **record["kwargs"], backend=backend)
                yield f"functional {i} {record['call']}", image
    yield "images", images


def _plain(value: Any) -> Any:
    """A record without tensors, which `repr` tells in full."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return digest(value) if isinstance(value, Tensor) else value


def canonical(tensor: Tensor) -> Tensor:
    """The tensor, dense, with one kind of NaN."""
    dense = tensor.detach().contiguous()
    return torch.where(dense.isnan(), torch.nan, dense) if dense.is_floating_point() else dense


def digest(value: Any) -> str:
    """Shape, dtype, strides and bits of a tensor in one line; text as it is."""
    if not isinstance(value, Tensor):
        return value
    held = canonical(value).view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
    return f"{value.dtype} {tuple(value.shape)} {value.stride()} {hashlib.sha256(held).hexdigest()[:32]}"


def serve(seed: int) -> None:
    """The process of a side: answer lines of (number, backend, keep) with lines of JSON."""
    if not Path(ga.__file__).resolve().is_relative_to(Path.cwd().resolve()):
        raise RuntimeError(f"runs {ga.__file__} instead of the library in {Path.cwd()}")
    for line in sys.stdin:
        number, backend, keep = line.split()
        try:
            case = case_of(seed, int(number), tiny=backend == "triton")
            found = values_of(case, backend)
        except Exception as error:
            case, found = None, {"raised": f"{type(error).__name__}: {error}"}
        answer: dict[str, Any] = {"values": {name: digest(value) for name, value in found.items()}}
        if int(keep):
            torch.save(found, "found.pt")
            answer["case"] = shown(case)
        print(json.dumps(answer), flush=True)


def shown(case: Case | None) -> str:
    """A case, an op and an input a line."""
    if case is None:
        return "a pipeline that cannot be made"
    lines = [f"Compose, seed {case.seed}, {case.memory_format}, threads {case.threads}, of"]
    return "\n    ".join([*lines, *map(repr, case.transforms), *map(repr, case.inputs)])


# --- both sides -------------------------------------------------------------------------------------------------------
@dataclass
class Tally:
    """What was compared on one backend."""

    backend: str
    compared: int = 0
    raised: int = 0
    differing: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, number: int, old: dict[str, str], new: dict[str, str]) -> None:
        """Compare the digests of a case; one that gives nothing does not count."""
        if not old and not new:
            return
        names = differing(old, new)
        self.compared += 1
        self.raised += any(name.endswith("raised") for name in (*old, *new))
        if names:
            self.differing.append((number, names))

    def __str__(self) -> str:
        return f"{self.backend}: {self.compared} compared, {self.raised} raise, {len(self.differing)} differ"


def differing(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The names of what is not the same."""
    return [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]


def both(sides: Sequence[Side], *words: object) -> list[dict]:
    """The answers of both sides, which work at the same time."""
    for side in sides:
        side.tell(*words)
    return [side.hear() for side in sides]


def where(name: str, old: Any, new: Any) -> list[str]:
    """How two values differ, a line each."""
    if not (isinstance(old, Tensor) and isinstance(new, Tensor)):
        return [f"{name}:", f"    old: {old}", f"    new: {new}"]
    kinds = [f"{v.dtype} {tuple(v.shape)}, strides {v.stride()}" for v in (old, new)]
    if old.shape != new.shape or old.dtype != new.dtype:
        return [f"{name}: old {kinds[0]}, new {kinds[1]}"]
    told = f"{name}: {kinds[0]}" if kinds[0] == kinds[1] else f"{name}: old {kinds[0]}, new {kinds[1]}"
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[old.element_size()]
    places = (canonical(old).view(words) != canonical(new).view(words)).nonzero().tolist()
    lines = [f"{told}; {len(places)} of {old.numel()} elements differ"]
    for place in map(tuple, places[:PLACES]):
        lines.append(f"    {list(place)}: old {old[place].item()!r}, new {new[place].item()!r}")
    return lines


def show(sides: Sequence[Side], folders: Sequence[Path], number: int, backend: str) -> bool:
    """Print a case, and where it differs; whether it does."""
    answers = both(sides, number, backend, 1)
    names = differing(*(answer["values"] for answer in answers))
    print(f"case {number} on {backend}: {answers[0]['case']}")
    old, new = (torch.load(folder / "found.pt") for folder in folders)
    for name in names:
        print("\n".join(where(name, old.get(name), new.get(name))))
    raised = [f"{name}: {value}" for name, value in old.items() if name.endswith("raised")]
    print("\n".join([*raised, f"{len(names)} of {len(old)} values differ" if names else "all are equal"]))
    return bool(names)


def compare(sides: Sequence[Side], backends: Sequence[str], count: int) -> list[Tally]:
    """The first `count` cases on these backends."""
    tallies, start = [Tally(backend) for backend in backends], time.monotonic()
    for number in range(count):
        for tally in tallies:
            old, new = both(sides, number, tally.backend, 0)
            tally.add(number, old["values"], new["values"])
        if (number + 1) % EVERY == 0 or number + 1 == count:
            print(f"{time.monotonic() - start:5.0f} s  {'; '.join(map(str, tallies))}", flush=True)
    return tallies


def keep_compiled(folder: Path, kept: Path) -> None:
    """Have what is compiled of a folder's kernels lie in `kept`, by what the kernels are."""
    kernels = folder / "gpuaug" / "kernels"
    sources = sorted(kernels.rglob("*.py"))
    content = [part for path in sources for part in (str(path.relative_to(kernels)).encode(), path.read_bytes())]
    digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
    for place in {path.parent for path in sources}:
        target = kept / f"gpuaug-same-{digest}" / place.relative_to(kernels)
        target.mkdir(parents=True, exist_ok=True)
        (place / "__pycache__").symlink_to(target.resolve(), target_is_directory=True)


def opened(commits: Sequence[str | None], folders: Sequence[Path], seed: int, interpreted: bool) -> list[Side]:
    """A process for each commit."""
    environment = {
        "NUMBA_CACHE_DIR": None,
        "TRITON_INTERPRET": "1" if interpreted else None,
        "PYTHONWARNINGS": "ignore",
    }
    options = ["--serve", "--seed", str(seed)]
    return [
        Side(commit, folder, "gpuaug.benchmarks.same", options, environment)
        for commit, folder in zip(commits, folders, strict=True)
    ]


def run(args: argparse.Namespace, commits: Sequence[str | None], folders: Sequence[Path]) -> list[Tally] | bool:
    """All tallies; with --only, whether the case differs."""
    chosen = args.backends.split(",")
    groups = [[name for name in chosen if name != "triton"], [name for name in chosen if name == "triton"]]
    tallies, differs = [], False
    for backends, count, interpreted in zip(groups, (args.count, args.interpreted), (False, True), strict=True):
        if not backends or not count:
            continue
        sides = opened(commits, folders, args.seed, interpreted)
        if args.only is None:
            tallies += compare(sides, backends, count)
        else:
            differs |= any([show(sides, folders, args.only, backend) for backend in backends])
        for side in sides:
            side.close()
    return tallies if args.only is None else differs


def main(argv: list[str] | None = None) -> int:
    """Print a line for each hundred cases, and what differs."""
    parser = argparse.ArgumentParser(prog="gpuaug.benchmarks.same", description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", metavar="OLD NEW")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--interpreted", type=int, default=200)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.seed)
        return 0
    if len(args.commits) not in (1, 2):
        parser.error("name the old commit, and the new one if it is not the files as they are")
    if unknown := set(args.backends.split(",")) - set(BACKENDS):
        parser.error(f"--backends must be of {', '.join(BACKENDS)}, got {', '.join(sorted(unknown))}")
    commits = [*args.commits, None][:2]
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, name) for name in ("old", "new")]
        for commit, folder in zip(commits, folders, strict=True):
            unpack(commit, folder)
            keep_compiled(folder, Path(os.environ.get("NUMBA_CACHE_DIR") or temporary))
        found = run(args, commits, folders)
    if isinstance(found, bool):
        return int(found)
    for tally in found:
        print(tally)
        for number, names in tally.differing[:TOLD]:
            again = f"--seed {args.seed} --only {number} --backends {tally.backend}"
            print(f"    {again}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")
    return int(any(tally.differing for tally in found))


if __name__ == "__main__":
    sys.exit(main())
