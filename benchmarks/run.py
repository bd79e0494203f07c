"""Time the table of pipelines: gpuaug on its backends and the peers that are installed, behind a parity gate.

    gpuaug bench [--device auto] [--threads N] [--cases flip,crop] [--providers gpuaug-cpu,kornia] [--quick]
                 [--parts scaling,grid] [--seconds 5] [--minutes 4]

prints the tables of `benchmarks.report`, and writes one JSON file for the machine into benchmarks/results/ (or to
--out). A case whose gate is red gets no time; the reason is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

import gpuaug as ga

from . import CHECKOUT, RESULTS, ROOT, first_call, host_time, peers, plots, report, scaling, step, timing
from . import grid as grids
from .cases import CASES
from .processes import Pool
from .table import Session, run_case

PACKAGES = ("torch", "torchvision", "triton", "numba", "numpy", "pillow", "kornia", "albumentations", "timm")
PACKAGES += ("triton-augment", "fuse-augmentations")
PARTS = ("scaling", "grid", "host", "step", "first-call")
VARIANTS = {
    "opencv": tuple(f"opencv-{kind}" for kind in ("python-headless", "python", "contrib-python-headless")),
    "dali": ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110"),
    "cv-cuda": ("cvcuda-cu13", "cvcuda-cu12"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 0 if all gates were green and gpuaug was timed in each case."""
    args = arguments(argv)
    device = torch.device(args.device)
    load = os.getloadavg()[0]
    torch.set_num_threads(args.threads)
    peers.set_opencv_threads(args.threads)
    effort = timing.QUICK if args.quick else timing.CUDA if device.type == "cuda" else timing.Effort()
    effort = replace(effort, seconds=args.seconds) if args.seconds else effort
    providers = [peers.PROVIDERS[name] for name in args.providers]
    in_processes = any(p.processes and device.type in p.devices for p in providers)
    pool = Pool(args.threads) if in_processes and args.threads > 1 and not args.quick else None
    try:
        session = Session(device, effort, providers, timing.copy_bandwidth(device), args.quick, pool)
        cases = [run_case(session, CASES[name]) for name in args.cases if args.in_time(name)]
    finally:
        if pool is not None:
            pool.close()
    green = all(row["status"] != "red" for case in cases for row in case["rows"])

    def begins(part: str) -> bool:
        return green and part in args.parts and args.in_time(part)

    grown, red = scaling.measure(device, args.threads, effort, providers) if begins("scaling") else ([], [])
    grid, more = grids.measure(device, session.copy_bytes_s) if begins("grid") else (None, [])
    result = {
        "schema": report.SCHEMA,
        "machine": machine(device, args.threads) | {"load_before": load},
        "versions": versions(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "quick": args.quick,
        "copy_gb_s": session.copy_bytes_s / 1e9,
        "cases": cases,
        "scaling": grown,
        "grid": grid,
        "host": host_time.everywhere() if begins("host") else [],
        "step": step.measure(device, effort) if begins("step") else None,
        "first_call": first_calls(cases, args) if begins("first-call") else [],
    }
    return finish(result, green and not red and not more, args)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="gpuaug bench", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch, gpuaug and OpenCV")
    for name, known in (("cases", CASES), ("providers", peers.PROVIDERS)):
        parser.add_argument(f"--{name}", type=_some_of(known), default=list(known), help=f"of {', '.join(known)}")
    told = "beside the cases, of " + ", ".join(PARTS) + "; by default all, after all cases"
    parser.add_argument("--parts", type=_some_of(dict.fromkeys(PARTS)), help=told)
    parser.add_argument("--seconds", type=float, help="of a case's rounds, at most")
    parser.add_argument("--minutes", type=float, help="after which no further case or part is begun")
    parser.add_argument("--quick", action="store_true", help="small batches, two rounds, no first calls: a smoke test")
    parser.add_argument("--out", type=Path, help="the JSON file; by default named after the machine, for a whole run")
    args = parser.parse_args(argv)
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device")
    if args.threads < 1:
        parser.error(f"--threads must be at least 1, got {args.threads}")
    if not any(peers.PROVIDERS[name].backend for name in args.providers):
        parser.error("--providers must name a backend of gpuaug: the peers are compared with it")
    whole = not args.quick and args.cases == list(CASES)
    if args.parts is None:
        args.parts = list(PARTS) if whole else [] if args.quick else ["first-call"]
    args.whole = whole and args.providers == list(peers.PROVIDERS) and args.parts == list(PARTS) and not args.minutes
    args.in_time = _until(args.minutes)
    return args


def _until(minutes: float | None) -> Callable[[str], bool]:
    """Whether something may still be begun; if not, that is told."""
    end = time.monotonic() + 60 * (math.inf if minutes is None else minutes)

    def in_time(name: str) -> bool:
        if time.monotonic() < end:
            return True
        print(f"out of time: no {name}", file=sys.stderr, flush=True)
        return False

    return in_time


def _some_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return [name for name in known if name in text.split(",")]

    return names


def machine(device: torch.device, threads: int) -> dict:
    """What the figures were measured on."""
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "driver": driver() if cuda else None,
        "system": f"{platform.system()} {platform.release()}",
        "vector": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
    }


def driver() -> str | None:
    """The version of NVIDIA's driver, if its tool tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.strip() else None


def memory_bytes() -> int:
    """Of the machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def cpu_name() -> str:
    """The processor's name, as precisely as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of all that takes part; None where a package is not installed."""
    found = {"python": platform.python_version(), "gpuaug": ga.__version__}
    for name in PACKAGES:
        found[name] = _version(name)
    return found | {name: next(filter(None, map(_version, names)), None) for name, names in VARIANTS.items()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> dict | None:
    """The commit, and whether files under version control differ from it; None outside of a git checkout."""
    if not CHECKOUT:
        return None
    told = []
    for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        except FileNotFoundError:
            return None
        if done.returncode:
            return None
        told.append(done.stdout.strip())
    return {"hash": told[0], "dirty": bool(told[1])}


def first_calls(cases: Sequence[dict], args: argparse.Namespace) -> list[dict]:
    """The first call in fresh processes, on each of our backends that was timed."""
    timed = {row["provider"] for case in cases for row in case["rows"] if row["status"] == "timed"}
    backends = [peers.PROVIDERS[name].backend for name in args.providers if name in timed]
    results = []
    for backend in dict.fromkeys(filter(None, backends)):
        print(f"first call: {backend}", file=sys.stderr, flush=True)
        results += first_call.measure(backend, args.device, args.threads)
    return results


def file_name(machine: Mapping) -> str:
    """cpu-amd-epyc-2threads.json or gpu-nvidia-h200.json."""
    gpu = machine["gpu"]
    text = f"gpu {gpu}" if gpu else f"cpu {machine['cpu']} {machine['threads']}threads"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-") + ".json"


def finish(result: dict, green: bool, args: argparse.Namespace) -> int:
    """Check, print and write the result; return the exit status."""
    problems = report.problems(result)
    if problems:
        raise RuntimeError("the result breaks its own schema: " + "; ".join(problems))
    print(report.render(result))
    out = args.out or (RESULTS / file_name(result["machine"]) if args.whole and green else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        for path in [out, *plots.draw(result, out.stem, out.parent)]:
            print(f"wrote {path}", file=sys.stderr)
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
