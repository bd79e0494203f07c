"""The benchmark: its gate refuses wrong engines and their times, its results keep their schema, its tables render."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gpuaug as ga
from gpuaug.benchmarks import first_call, gate, peers, report, run, timing
from gpuaug.benchmarks.cases import CASES, import_albumentations
from gpuaug.benchmarks.processes import Pool

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
OURS = "gpuaug-kornia"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "COPY_BYTES", 1 << 20)


def bench(out: Path, cases: str, providers: str) -> tuple[int, dict]:
    """Run the command, and read what it wrote."""
    threads = str(torch.get_num_threads())
    command = ["--quick", "--device", "cpu", "--threads", threads, "--cases", cases, "--providers", providers]
    status = run.main([*command, "--out", str(out)])
    return status, json.loads(out.read_text(encoding="utf-8"))


def rows_of(result: dict, case: str) -> dict[str, dict]:
    (found,) = [c for c in result["cases"] if c["name"] == case]
    return {row["provider"]: row for row in found["rows"]}


def test_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("albumentations", reason="a peer of this run")
    providers = "gpuaug-triton,gpuaug-cpu,gpuaug-kornia,torchvision,torchvision-processes,kornia,albumentations-batched"
    status, result = bench(tmp_path / "a.json", "cifar,host", f"{providers},triton-augment")
    assert status == 0 and report.problems(result) == []
    assert [case["name"] for case in result["cases"]] == ["cifar", "host"]
    rows = rows_of(result, "cifar")
    timed = {name for name, row in rows.items() if row["status"] == "timed"}
    assert timed == {"gpuaug-cpu", "gpuaug-kornia", "torchvision", "kornia", "albumentations-batched"}
    for name in ("gpuaug-triton", "torchvision-processes", "triton-augment"):
        assert rows[name]["status"] == "skipped" and rows[name]["reason"]
    for row in (rows[name] for name in timed):
        seconds = row["median_ms"] / 1e3
        assert row["images_s"] == pytest.approx(8 / seconds)
        assert row["gb_s"] == pytest.approx(8 * 3 * 32 * 32 * 5 / seconds / 1e9)
        assert row["percent_of_copy"] == pytest.approx(100 * row["gb_s"] / result["copy_gb_s"])
    verdict = result["cases"][0]["gates"]["gpuaug-cpu"]
    assert verdict["passed"] and verdict["samples"] == 8 and verdict["left_out"] == 0 and verdict["worst"] < 1
    assert result["machine"]["device"] == "cpu" and result["versions"]["kornia"] and result["quick"]
    shown = capsys.readouterr().out
    assert "## cifar" in shown and "a quick run" in shown.lower()


def later(pixels: torch.Tensor) -> torch.Tensor:
    """Right but for the last sample."""
    pixels = pixels.clone()
    pixels[-1, 0, 3, 5] += 0.05
    return pixels


BROKEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "brighter": lambda pixels: pixels + 0.05,
    "one pixel of the last sample": later,
    "shifted": lambda pixels: pixels.roll(1, -1),
    "mirrored": lambda pixels: pixels.flip(-1),
    "samples swapped": lambda pixels: pixels.roll(1, 0),
    "not a number": lambda pixels: pixels * float("nan"),
    "another dtype": lambda pixels: pixels.half(),
    "another size": lambda pixels: pixels[..., :-1],
    "raises": lambda pixels: pixels[99],
}


@pytest.mark.parametrize("case", ["cifar", "resized-crop"])
@pytest.mark.parametrize("broken", BROKEN)
def test_broken_engine_gets_no_time(
    case: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    forward = ga.Compose.forward
    monkeypatch.setattr(ga.Compose, "forward", lambda self, images: BROKEN[broken](forward(self, images)))
    status, result = bench(tmp_path / "a.json", case, f"{OURS},torchvision")
    assert status == 1 and report.problems(result) == []
    assert not result["cases"][0]["gates"][OURS]["passed"]
    for row in rows_of(result, case).values():
        assert row["status"] == "red" and OURS in row["reason"]
        assert all(row[figure] is None for figure in report.FIGURES)
    told = capsys.readouterr()
    assert "RED GATE" in told.err and "RED" in told.out and " ms" not in told.out


def test_backend_that_does_not_import_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise NameError("its module is broken")

    monkeypatch.setattr("gpuaug.backends.reason_against", fail)
    status, result = bench(tmp_path / "a.json", "cifar", OURS)
    assert status == 1 and "its module is broken" in rows_of(result, "cifar")[OURS]["reason"]


def test_equal_draws_turn_the_gate_red(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    augment = CASES["cifar"].ours("kornia")
    assert gate.parity(augment, images).passed
    sample = ga.Compose.sample

    def same(self: ga.Compose, images: torch.Tensor) -> ga.Params:
        params = sample(self, images)
        return replace(params, table=params.table[:1].expand_as(params.table))

    monkeypatch.setattr(ga.Compose, "sample", same)
    assert gate.parity(augment, images).reason == "all samples have the same draw"


def test_gate_knows_what_it_judges() -> None:
    ops = [ga.GaussianNoise(), ga.ToDtype(torch.float32, scale=True)]
    with pytest.raises(ValueError, match="gaussian_noise"):
        gate.parity(ga.Compose(ops, seed=0, backend="kornia"), torch.full((2, 3, 8, 8), 100, dtype=torch.uint8))


def test_gate_leaves_out_only_part_covered_pixels() -> None:
    turn = {"angle": 0.0, "translate": [3.5, 0.0], "scale": 1.0, "shear": [0.0, 0.0], "interpolation": "bilinear"}
    records = [{"call": "affine", "kwargs": turn | {"fill": 0, "center": None}}]
    skip = gate.part_covered(torch.zeros(3, 8, 8, dtype=torch.uint8), records)
    assert skip[0].nonzero()[:, 1].unique().tolist() == [3] and int(skip.sum()) == 8
    crop = [{"call": "crop", "kwargs": {"top": -4, "left": 0, "height": 8, "width": 4}}]
    assert not gate.part_covered(torch.zeros(3, 8, 8, dtype=torch.uint8), crop).any()
    assert gate.window(crop, (8, 8)) == 0.25


def synthetic(ours: float = 2.0, peer: float = 40.0) -> dict:
    """A result with one case, one peer that is timed and one that is not."""

    def row(provider: str, library: str, milliseconds: float | None, reason: str | None = None) -> dict:
        figures: dict[str, object] = dict.fromkeys(report.FIGURES)
        if milliseconds:
            figures |= dict.fromkeys(report.TIMES, 1.0)
            figures |= {"median_ms": milliseconds, "p20_ms": 0.9 * milliseconds, "p80_ms": 1.2 * milliseconds}
        status = "timed" if milliseconds else "skipped"
        told = {"form": "one call", "work": "per sample", "differs": None, "status": status, "reason": reason}
        return {"provider": provider, "library": library, **told, **figures}

    case = {
        "name": "crop",
        "title": "a crop",
        "input": {"shape": [8, 3, 32, 32], "dtype": "uint8", "images": "smoothed noise", "batches": 2},
        "output": {"shape": [8, 3, 32, 32], "dtype": "float32", "layout": "contiguous"},
        "targets": {"torchvision": 15.0, "kornia": 12.0},
        "gates": {"gpuaug-cpu": gate.Verdict(True, None, 8, 0.1).as_dict()},
        "planned_launches": 2,
        "floor": {"source_bytes": 1, "touched_bytes": 1, "output_bytes": 1},
        "rows": [
            row("gpuaug-cpu", "gpuaug", ours),
            row("torchvision", "torchvision", peer),
            row("kornia", "kornia", None, "kornia is not installed"),
        ],
    }
    calls = [
        {"backend": "cpu", "state": state, "import_s": 1.0, "library_s": 0.5, "first_s": first, "second_s": 0.1}
        for state, first in zip(first_call.STATES, (9.0, 1.5), strict=True)
    ]
    return {
        "schema": report.SCHEMA,
        "machine": run.machine(CPU, 2) | {"load_before": 0.1},
        "versions": run.versions(),
        "commit": {"hash": "0" * 40, "dirty": True},
        "date": "2026-01-01T00:00:00+00:00",
        "quick": False,
        "copy_gb_s": 10.0,
        "cases": [case],
        "scaling": [],
        "grid": None,
        "host": [],
        "step": None,
        "first_call": calls,
    }


def test_report_shows_wins_losses_and_targets() -> None:
    shown = report.render(synthetic())
    assert "| 20.0x |" in shown and "loss |" not in shown
    assert "torchvision: at least 15x; 20.0x (torchvision), met" in shown
    assert "kornia: at least 12x; not timed" in shown
    assert "kornia: no time, skipped: kornia is not installed" in shown
    assert "at most 30: met" in shown and "at most 1: **missed**" in shown and "with changes" in shown
    shown = report.render(synthetic(ours=40.0, peer=20.0))
    assert "| **0.50x, a loss** |" in shown
    assert "torchvision: at least 15x; 0.5x (torchvision), **missed**" in shown


def test_targets_take_the_fastest_equal_row() -> None:
    result = synthetic()
    rows = result["cases"][0]["rows"]
    for provider, work, milliseconds in (
        ("torchvision-batched", peers.PER_SAMPLE, 20.0),
        ("torchvision-shared", peers.SHARED, 4.0),
        ("torchvision-processes", peers.PER_SAMPLE, 6.0),
    ):
        rows.append(rows[1] | {"provider": provider, "work": work, "median_ms": milliseconds})
    assert "torchvision: at least 15x; 10.0x (torchvision-batched), **missed**" in report.render(result)


def changed(*path: object, to: object = None, drop: bool = False) -> dict:
    """A synthetic result with one member replaced or dropped."""
    result = synthetic()
    place = result
    for step in path[:-1]:
        place = place[step]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return result


CASE, ROW = ("cases", 0), ("cases", 0, "rows", 1)
SPOILT = {
    "no schema": changed("schema", drop=True),
    "another schema": changed("schema", to=99),
    "unknown member": changed("surprise", to=1),
    "threads as text": changed("machine", "threads", to="2"),
    "threads as bool": changed("machine", "threads", to=True),
    "cases as object": changed("cases", to={}),
    "case without rows": changed(*CASE, "rows", drop=True),
    "floor without bytes": changed(*CASE, "floor", "output_bytes", drop=True),
    "gate without verdict": changed(*CASE, "gates", "gpuaug-cpu", "passed", drop=True),
    "times behind a red gate": changed(*CASE, "gates", "gpuaug-cpu", "passed", to=False),
    "times behind no gate": changed(*CASE, "gates", to={}),
    "unknown status": changed(*ROW, "status", to="fine"),
    "timed without a time": changed(*ROW, "median_ms", to=None),
    "no time at all": changed(*ROW, "median_ms", to=0.0),
    "percentiles out of order": changed(*ROW, "p20_ms", to=41.0),
    "a time for what was skipped": changed("cases", 0, "rows", 2, "median_ms", to=1.0),
    "skipped without a reason": changed("cases", 0, "rows", 2, "reason", to=None),
    "first call without a time": changed("first_call", 0, "first_s", to=None),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_schema_refuses(spoilt: str) -> None:
    assert report.problems(synthetic()) == []
    assert report.problems(copy.deepcopy(SPOILT[spoilt]))


def test_report_command_refuses_a_spoilt_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(synthetic()), encoding="utf-8")
    bad.write_text(json.dumps(SPOILT["no schema"]), encoding="utf-8")
    assert report.main([str(good)]) == 0
    assert report.main([str(good), str(bad)]) == 1
    assert "bad.json" in capsys.readouterr().err


def test_published_results_keep_the_schema(published: list[Path]) -> None:
    assert published
    for path in published:
        result = json.loads(path.read_text(encoding="utf-8"))
        assert report.problems(result) == [], path.name
        assert not result["quick"] and path.name == run.file_name(result["machine"])
        assert report.render(result)


def test_unequal_work_is_refused() -> None:
    case = replace(CASES["cifar"], batch=8)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    right = case.ours("kornia")(images)
    assert peers.complaint(right, case, CPU, right) is None
    mean, std = (torch.tensor(v)[:, None, None] for v in (case.mean, case.std))
    wrong = {
        "another size": right[:4],
        "another dtype": right.double(),
        "another layout": right.contiguous(memory_format=torch.channels_last),
        "not scaled": (images.float() - mean) / std,
        "scaled twice": (images.float() / 255 / 255 - mean) / std,
        "not a number": right * float("nan"),
    }
    assert [name for name, output in wrong.items() if peers.complaint(output, case, CPU, right) is None] == []


def test_providers_take_turns() -> None:
    turns = []
    calls = {name: (lambda i, name=name: turns.append((name, i))) for name in "ABC"}
    effort = timing.Effort(rounds=3, least=3, slice_s=0.0)
    times = timing.interleave(calls, 2, CPU, effort)
    assert [name for name, _ in turns[-9:]] == list("ABCABCABC")
    assert [i for _, i in turns[-9:]] == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert all(len(seconds) == 3 for seconds, _ in times.values())


def test_a_call_that_raises_holds_up_no_other() -> None:
    made: list[int] = []

    def breaks(i: int) -> None:
        made.append(i)
        if len(made) == 4:
            raise ValueError("bits must be at least 1")

    calls, effort, failed = {"sound": lambda i: i, "breaks": breaks}, timing.Effort(rounds=3, slice_s=0.0), {}
    times = timing.interleave(calls, 2, CPU, effort, failed)
    assert list(times) == ["sound"] and len(times["sound"][0]) == 3
    assert failed == {"breaks": "a call raised ValueError: bits must be at least 1"} and len(made) == 4
    made.clear()
    with pytest.raises(RuntimeError, match="breaks: a call raised ValueError: bits must be at least 1"):
        timing.interleave(calls, 2, CPU, effort)


def test_a_slow_provider_sits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"slow": 2.0, "quick": 0.5}
    monkeypatch.setattr(timing, "burst", lambda call, first, count, device: ([took[call(first)]] * count, 0.0))
    effort = timing.Effort(rounds=9, slice_s=0.0, share_s=3.0)
    times = timing.interleave({name: lambda i, name=name: name for name in took}, 2, CPU, effort)
    assert {name: len(seconds) for name, (seconds, _) in times.items()} == {"slow": timing.FEWEST, "quick": 7}


def test_spread() -> None:
    figures = timing.spread([k / 1e3 for k in range(1, 12)])
    assert figures == pytest.approx({"median_ms": 6, "p20_ms": 3, "p80_ms": 9})


def test_result_files_are_named_by_machine() -> None:
    assert run.file_name({"gpu": None, "cpu": "AMD EPYC", "threads": 2}) == "cpu-amd-epyc-2threads.json"
    assert run.file_name({"gpu": "NVIDIA H200", "cpu": "AMD EPYC", "threads": 2}) == "gpu-nvidia-h200.json"
    assert run.file_name({"gpu": None, "cpu": "Intel(R) Xeon(R) @ 2GHz", "threads": 4}).startswith(
        "cpu-intel-xeon-2ghz"
    )


@pytest.mark.parametrize(
    "argument, told",
    [
        (["--cases", "nothing"], "nothing: not one of flip"),
        (["--providers", "kornia"], "must name a backend of gpuaug"),
        (["--threads", "0"], "at least 1, got 0"),
    ],
)
def test_bad_arguments(argument: list[str], told: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run.main(argument)
    assert told in capsys.readouterr().err


def test_peers_in_processes() -> None:
    pytest.importorskip("albumentations", reason="the peer that is run")
    import_albumentations()
    case = replace(CASES["cifar"], batch=9)
    batches = [torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    pool = Pool(2)
    try:
        call = pool.build(peers.PROVIDERS["albumentations-processes"], case, batches, CPU)
        first, second = call(0).clone(), call(1).clone()
        with pytest.raises(RuntimeError, match="IndexError"):
            call(2)
        os.kill(pool.workers[0][0].pid, signal.SIGSTOP)  # does not end when told to
    finally:
        pool.close()
    expected = case.ours("kornia")(batches[0])
    assert peers.complaint(first, case, CPU, expected) is None and peers.complaint(second, case, CPU, expected) is None
    assert not torch.equal(first, second)
    assert not any(process.is_alive() for process, _ in pool.workers)


def test_first_call_is_measured_in_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_call, "RUNS", 1)
    found = first_call.measure("kornia", "cpu", 1)
    assert tuple(entry["state"] for entry in found) == first_call.STATES
    assert all(entry[name] > 0 for entry in found for name in ("import_s", "library_s", "first_s", "second_s"))


@pytest.mark.slow
def test_first_call_finds_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process keeps what it compiles in an empty folder; the second adds nothing to it."""
    kept, start = [], first_call.subprocess.run

    def watched(*arguments: object, env: dict, **keywords: object) -> object:
        folder = Path(env["NUMBA_CACHE_DIR"])
        before = written(folder)
        done = start(*arguments, env=env, **keywords)
        kept.append((before, written(folder)))
        return done

    def written(folder: Path) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    monkeypatch.setattr(first_call.subprocess, "run", watched)
    monkeypatch.setattr(first_call, "RUNS", 1)
    assert len(first_call.measure("cpu", "cpu", 1)) == len(kept)
    *built, (empty, first), second = kept
    assert all(not any(folder) for folder in built)
    assert not empty and first and second == (first, first)


def test_readme_shows_the_published_results(published: list[Path]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(published) == 2
    for path in published:
        table = report.readme(json.loads(path.read_text(encoding="utf-8")))
        assert table in readme, "print it by gpuaug.benchmarks.report --readme"
        assert path.name in readme
