"""The command that asks a GPU: what of it can be tested without one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

from gpuaug.benchmarks import gpu_check, gpu_parts
from gpuaug.benchmarks.gpu_check import Part
from gpuaug.benchmarks.host_time import stubbed


def test_a_dry_run_says_what_each_part_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(gpu_check.PARTS)
    assert all("not found" in line or "no CUDA device" in line for line in lines)


def test_all_parts_end_within_ten_minutes() -> None:
    assert sum(part.seconds for part in gpu_check.PARTS.values()) <= 600


def test_a_part_without_a_gpu_runs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = gpu_check.run("graphs", gpu_check.PARTS["graphs"], tmp_path)
    assert told["status"] == "lacking" and not list(tmp_path.iterdir())


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


@pytest.mark.parametrize(
    "end, status", [("", "done"), ("raise SystemExit('no luck')", "failed"), ("time.sleep(60)", "late")]
)
def test_what_a_part_found_is_kept(
    end: str, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Part, "lacks", lambda part: None)
    code = f"import pathlib, time; pathlib.Path({str(tmp_path / 'one.json')!r}).write_text('[1, 2]'); {end}"
    monkeypatch.setattr(gpu_check, "PARTS", {"one": Part(5, python(code))})
    assert gpu_check.main(["--out", str(tmp_path)]) == (status != "done")
    told = gpu_check.run("one", gpu_check.PARTS["one"], tmp_path)
    assert told["status"] == status and told["found"] == [1, 2]
    assert ("no luck" in (told["reason"] or "")) == (status == "failed")
    assert f"one        {status}" in capsys.readouterr().out
    assert (tmp_path / "gpu-check.json").is_file()


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--parts", "tests,grahps"])
    assert "grahps" in capsys.readouterr().err


def test_points_and_variants_are_launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parts that measure, with launches stubbed and a clock that stands still."""
    launched = []
    monkeypatch.setattr(gpu_parts, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gpu_parts, "replayed", lambda calls: float(len([call() for call in calls])))
    monkeypatch.setattr(gpu_parts, "graph_points", lambda: [("crop", "bf16 last", 2, 256), ("affine", "f32", 2, 64)])
    monkeypatch.setattr(gpu_parts.timing, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(gpu_parts.Point, "floor_bytes", lambda point: 1.0)
    variant = gpu_parts.Variant("write", (16, 64), 8, 80)
    with stubbed(launch=lambda *arguments: launched.append(arguments)):
        found = gpu_parts.Found(tmp_path / "graphs.json")
        gpu_parts.graphs(found)
        assert [(e["case"], e["size"]) for e in found.entries] == [("crop", 256), ("affine", 64)]
        assert (tmp_path / "graphs.json").is_file() and launched
        point = gpu_parts.Point(gpu_parts.with_output("crop", "bf16 last", 2))
        with variant.used():
            point.augment = point.case.ours("triton")
            _, recipe = point.augment.take(point.batches[0])
            write = recipe.engine.launches["write"].kernel
            assert recipe.engine.tile == variant.tile
        _, own = point.case.ours("triton").take(point.batches[0])
    assert dict(write.constants)["TILE_W"] == 64 and write.warps == 8 and dict(write.options)["maxnreg"] == 80
    assert dict(own.engine.launches["write"].kernel.constants)["TILE_W"] == 32 and own.engine.tile == (16, 32)
