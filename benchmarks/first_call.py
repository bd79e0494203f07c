"""How long the first call takes in a fresh process: of the CPU engine that was built ahead, with nothing compiled yet,
and from the caches on disk.

Each process prints one line of JSON: the seconds of importing torch and gpuaug, of importing what the backend is built
on, of the first `augment(images)` after that, and of the second.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time

import torch

from gpuaug.kernels.cpu import engine

from . import ROOT

CASE = "resized-crop"
LIBRARY = {"cpu": "numba", "triton": "triton", "kornia": "kornia"}
START = """
import time
begun = time.perf_counter()
from gpuaug.benchmarks.first_call import main
main(begun)
"""
STATES = ("nothing cached", "cached")
BUILT = "built"  # the state of a CPU engine that was built ahead, if there is one
RUNS = 3  # of a state that lasts


def measure(backend: str, device: str, threads: int) -> list[dict]:
    """Fresh processes, of RUNS the median: of the engine that was built, where it is; then over one new cache folder,
    of which the first process finds nothing."""
    command = [sys.executable, "-c", START]
    command += ["--backend", backend, "--device", device, "--threads", str(threads)]
    states = [(state, {"GPUAUG_ENGINE": "jit"}, n) for state, n in zip(STATES, (1, RUNS), strict=True)]
    if backend == "cpu" and engine.built() is not None:
        states.insert(0, (BUILT, {"GPUAUG_ENGINE": "built"}, RUNS))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        caches = {"NUMBA_CACHE_DIR": f"{folder}/numba", "TRITON_CACHE_DIR": f"{folder}/triton"}
        for state, chosen, runs in states:
            found = []
            for _ in range(runs):
                environment = os.environ | caches | chosen
                done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"the first call on {backend} failed:\n{done.stderr}")
                found.append(json.loads(done.stdout.splitlines()[-1]))
            found.sort(key=lambda result: result["first_s"])
            results.append({"backend": backend, "state": state} | found[len(found) // 2])
    return results


def main(begun: float) -> None:
    """In the fresh process, which has imported gpuaug since `begun`: import the library, call twice, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", required=True, choices=LIBRARY)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    clock = [begun, time.perf_counter()]
    if os.environ.get("GPUAUG_ENGINE") != "built":
        importlib.import_module(LIBRARY[args.backend])
    clock.append(time.perf_counter())

    from .cases import CASES
    from .timing import synchronize

    torch.set_num_threads(args.threads)
    device, case = torch.device(args.device), CASES[CASE]
    images = torch.randint(0, 256, (case.batch, 3, case.size, case.size), dtype=torch.uint8).to(device)
    augment = case.ours(args.backend)
    synchronize(device)
    for _ in range(2):
        clock.append(time.perf_counter())
        augment(images)
        synchronize(device)
        clock.append(time.perf_counter())
    imports, library, _, first, _, second = (b - a for a, b in zip(clock, clock[1:], strict=False))
    print(json.dumps({"import_s": imports, "library_s": library, "first_s": first, "second_s": second}))
