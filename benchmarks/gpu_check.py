"""All that is to be asked of a GPU once one is at hand, in ten minutes, in order of what matters most.

    python -m gpuaug.benchmarks.gpu_check [--parts tests,graphs] [--out FOLDER] [--dry-run]

Each part runs in a process of its own, within its own time; what it had found when the time was up is kept. Afterwards
all of it stands in one JSON file, `gpu-check.json`, and as a table on the screen; the parts' output in `PART.log`.
Torch and Triton are all that it needs; a part that lacks a tool says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from . import CHECKOUT, RESULTS, ROOT

WORKERS = max(1, min(15, (os.cpu_count() or 2) - 1))
NCU_METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__t_sector_hit_rate.pct",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "l1tex__throughput.avg.pct_of_peak_sustained_elapsed",
    "smsp__inst_executed.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_xu.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active",
    "sm__inst_executed_pipe_alu.avg.pct_of_peak_sustained_active",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_math_pipe_throttle_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_lg_throttle_per_issue_active.ratio",
    "smsp__average_warps_issue_stalled_no_instruction_per_issue_active.ratio",
    "launch__registers_per_thread",
    "launch__grid_size",
)


@dataclass(frozen=True)
class Part:
    """One thing to find out.

    Attributes:
        seconds: how long it may take.
        command: its process; one of `gpu_parts` finds `--out FILE` behind it.
        needs: programs that it calls, and modules that it imports.
        environment: variables that it sets.
    """

    seconds: int
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def lacks(self) -> str | None:
        """What there is not, or None."""
        missing = [n for n in self.needs if not shutil.which(n) and importlib.util.find_spec(n) is None]
        if missing:
            return f"{', '.join(missing)}: not found"
        return None if torch.cuda.is_available() else "torch finds no CUDA device"


def _measured(name: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "gpuaug.benchmarks.gpu_parts", name, *more)


_PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--dist", "worksteal", "-n", str(WORKERS))
PARTS = {
    "compile": Part(90, _measured("compile")),
    "tests": Part(150, (*_PYTEST, "-m", "gpu", str(ROOT / "tests" / "test_gpu.py")), ("pytest", "xdist")),
    "rates": Part(20, _measured("rates")),
    "graphs": Part(60, _measured("graphs")),
    "sweep": Part(180, _measured("sweep")),
    "sanitizer": Part(
        40,
        ("compute-sanitizer", "--error-exitcode", "9", *_measured("probe", "--small")),
        ("compute-sanitizer",),
        (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),),
    ),
    "ncu": Part(
        60,
        ("ncu", "--profile-from-start", "off", "--clock-control", "none", "--csv", "--page", "raw")
        + ("--metrics", ",".join(NCU_METRICS), *_measured("probe")),
        ("ncu",),
    ),
}


def run(name: str, part: Part, folder: Path) -> dict:
    """One part: its status ("done", "failed", "late", "lacking"), seconds, and what it found."""
    reason = part.lacks()
    if reason:
        return {"status": "lacking", "reason": reason, "seconds": 0.0, "found": []}
    found, log = folder / f"{name}.json", folder / f"{name}.log"
    command = part.command
    if "gpuaug.benchmarks.gpu_parts" in command:
        command += ("--out", str(found))
    begun = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | dict(part.environment),
        )  # fmt: skip
        try:
            status = "failed" if process.wait(part.seconds) else "done"
        except subprocess.TimeoutExpired:
            status = "late"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    return {
        "status": status,
        "reason": None if status == "done" else text[-2000:],
        "seconds": round(time.monotonic() - begun, 1),
        "found": json.loads(found.read_text(encoding="utf-8")) if found.is_file() else [],
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, in the order to run them")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu-check", help="the folder of all that is written")
    parser.add_argument("--dry-run", action="store_true", help="say what each part would run, and what it lacks")
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"--parts: {', '.join(unknown)}: not one of {', '.join(PARTS)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; the exit status is 0 if all that could run did."""
    args = arguments(argv)
    if not CHECKOUT:
        raise SystemExit("gpu_check runs the GPU tests: it needs a clone of the project")
    if args.dry_run:
        for name in args.parts:
            part = PARTS[name]
            print(f"{name:10s} at most {part.seconds:3d} s  {part.lacks() or 'can run'}", flush=True)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    result = {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda, "parts": {}}
    for name in args.parts:
        told = result["parts"][name] = run(name, PARTS[name], args.out)
        (args.out / "gpu-check.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        lines = (told["reason"] or "").strip().splitlines()
        print(f"{name:10s} {told['status']:8s} {told['seconds']:6.1f} s  {lines[-1] if lines else ''}", flush=True)
    for name, told in result["parts"].items():
        for line in (args.out / f"{name}.log").read_text(errors="replace").splitlines() if told["found"] else []:
            print(line)
    return int(any(told["status"] in ("failed", "late") for told in result["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
