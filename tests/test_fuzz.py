"""Explicit parameters that no draw gives, on every function and on pipelines: no fault, nothing beside an image."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import fuzz_explicit
import guarded
import pytest
from fuzz_planted import PLANTED

from gpuaug import functional

FOLDER = Path(__file__).parent
IN_THE_SUITE = {"cpu": 100, "kornia": 100}  # the first cases on each backend
IN_ALL = {"cpu": 13_000, "kornia": 7_000}
NO_GUARDS = guarded.reason_against()
pytestmark = pytest.mark.skipif(NO_GUARDS is not None, reason=str(NO_GUARDS))


def outcomes(program: list[str], backend: str, start: int, stop: int, log: Path) -> dict[int, dict]:
    """What each case from start to stop - 1 came to, by its number. Where a case ends its process, the next one goes
    on behind it."""
    found: dict[int, dict] = {}
    while start < stop:
        begun = None
        command = [sys.executable, *program, backend, str(start), str(stop)]
        with log.open("w") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as child:
            for line in child.stdout:
                told = json.loads(line)
                begun = told.get("begins")
                if begun is None:
                    found[told["number"]] = told
        if begun is None and child.returncode:
            raise RuntimeError(f"{command} ended with {child.returncode}: {log.read_text()[-2000:]}")
        if begun is None:
            break
        found[begun] = {"fault": f"the process ended with {child.returncode}: {log.read_text()[:1500]}"}
        start = begun + 1
    return found


def faults(found: dict[str, dict[int, dict]]) -> list[str]:
    """A line for each case that must not be, with the command that runs it alone; `found` is by backend."""
    lines = []
    for backend, cases in found.items():
        again = f"python tests/fuzz_child.py {backend}"
        lines += [f"{again} {number}: {told['fault']}" for number, told in cases.items() if "fault" in told]
    for number in found["cpu"].keys() & found["kornia"].keys():
        one, other = found["cpu"][number], found["kornia"][number]
        refused = any(told.get("raised", "").startswith("RuntimeError: no backend can run") for told in (one, other))
        if "fault" not in one and "fault" not in other and not refused and one != other:
            lines.append(f"python tests/fuzz_child.py cpu {number}: {one}, but {other} on kornia")
    return lines


def assert_no_fault(counts: dict[str, int], folder: Path) -> None:
    """Run so many cases on each backend."""
    found = {}
    for backend, n in counts.items():
        found[backend] = outcomes([str(FOLDER / "fuzz_child.py")], backend, 0, n, folder / backend)
        assert sorted(found[backend]) == list(range(n))
    lines = faults(found)
    assert not lines, f"{len(lines)} faults, the first ones:\n" + "\n".join(lines[:10])


def test_every_function_has_a_generator():
    public = {name: getattr(functional, name) for name in functional.__all__ if name != "InterpolationMode"}
    computing = {f.__name__ for f in public.values() if "backend" in inspect.signature(f).parameters}
    own = {name for name in computing if name.split("_")[-1] not in ("image", "video")}
    assert set(fuzz_explicit.GENERATORS) == own - {"elastic"}  # whose displacement is no column of a table


def test_every_argument_of_a_function_is_drawn():
    own = {"inpt", "image", "backend", "inplace", "expand"}
    for name, generator in fuzz_explicit.GENERATORS.items():
        drawn = generator(fuzz_explicit.Draw(1)).keys()
        assert drawn == inspect.signature(getattr(functional, name)).parameters.keys() - own, name


def test_a_case_follows_from_its_number():
    assert repr(fuzz_explicit.case(5)) == repr(fuzz_explicit.case(5))
    assert {fuzz_explicit.case(n).name for n in range(1000)} == {*fuzz_explicit.GENERATORS, *fuzz_explicit.PIPELINES}


def test_explicit_values_fault_nothing(tmp_path: Path):
    assert_no_fault(IN_THE_SUITE, tmp_path)


@pytest.mark.slow
def test_more_explicit_values_fault_nothing(tmp_path: Path):
    assert_no_fault(IN_ALL, tmp_path)


# --- faults that are put there to be found ----------------------------------------------------------------------------
TOLD = {
    "invert": None,
    "reads_beyond": "the process ended with -11: Fatal Python error: Segmentation fault",
    "hangs": "the process ended with 1: Timeout",
    "changes_the_input": "the input, or memory beside it, was written",
    "writes_beside_the_output": "memory beside the output was written",
    "leaves_one_out": "1 values were not written, or differ between two calls",
    "draws": "1 values were not written, or differ between two calls",
    "makes_nan": "48 NaN from finite numbers",
    "raises_what_is_not_its_own": "IndexError",
    "leaves_an_error_to_torch": "RuntimeError",
}


def test_planted_faults_are_found(tmp_path: Path):
    names = [function.__name__ for function in PLANTED]
    assert {*names} == TOLD.keys() and names[-1] == "invert"
    found = outcomes([str(FOLDER / "fuzz_planted.py")], "cpu", 0, len(names), tmp_path / "log")
    assert sorted(found) == list(range(len(names)))
    for number, name in enumerate(names):
        fault = found[number].get("fault")
        assert (fault is None) if TOLD[name] is None else (TOLD[name] in fault), (name, fault)
    lines = faults({"cpu": found, "kornia": {}})
    assert len(lines) == len(names) - 2 and lines[0].startswith("python tests/fuzz_child.py cpu 1: the process ended")


def test_backends_that_differ_are_a_fault():
    made, other = {"number": 3, "shape": [1, 3, 2, 2], "dtype": "torch.uint8"}, "torch.float32"
    assert faults({"cpu": {3: made}, "kornia": {3: made}}) == []
    assert len(faults({"cpu": {3: made}, "kornia": {3: made | {"dtype": other}}})) == 1
    assert len(faults({"cpu": {3: made}, "kornia": {3: {"number": 3, "raised": "ValueError: crop: no"}}})) == 1
    refused = {"number": 3, "raised": "RuntimeError: no backend can run this pipeline"}
    assert faults({"cpu": {3: made}, "kornia": {3: refused}}) == []
