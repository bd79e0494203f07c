"""Result files of the benchmark: their schema, and tables from them.

    python -m gpuaug.benchmarks.report [--readme] benchmarks/results/cpu-*.json

A result file is one JSON object with the members of `RESULT`; `cases` holds objects of `CASE`, their `rows` objects of
`ROW`, and so on. Times are milliseconds a call unless the name says otherwise. In a row

    status   "timed"; "skipped": this machine or case cannot run it; "failed": it raised, or did other work;
             "red": a parity gate of its case is red. `reason` says why, for all but "timed".
    work     "per sample": each image is drawn for itself; "one draw for the batch": that is less work.
    differs  what the library's version of the pipeline does otherwise, or null.
    calls    how many figures the percentiles are over: calls on a CPU, rows of calls between two events on CUDA.
    gb_s     bytes of `floor` (of the source what is touched, and the output) over the median; percent_of_copy is that
             against the copy bandwidth measured in the same run (copy_gb_s, read and written bytes).
    host_us  microseconds until the call returns, and launches: CUDA only, null on a CPU, where `host` and the case
             "host" (one image of 32x32) show what a call costs beside its pixels.
    peak_mb  what one call takes of the device's memory at most, its result included; on a CPU the growth of resident
             memory, null where that is not told and for peers in processes.

`scaling` is what `benchmarks.scaling` measures: milliseconds a call at the point x of an axis; `grid` what
`benchmarks.grid` does: each case by batch, inputs and outputs by dtype and layout; `host` microseconds of Python a call
(`benchmarks.host_time`); `step` a training step without augmentation (`benchmarks.step`). All are left out of quick
runs and of runs of some cases ([] and null).

`first_call` is measured in fresh processes: import_s (torch and gpuaug), library_s (what the backend is built on),
first_s and second_s of `augment(images)` after that, for the case "resized-crop".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import first_call, grid, host_time, scaling, step

SCHEMA = 3
NUMBER = (int, float)
MAYBE = (*NUMBER, type(None))
TEXT_OR_NONE = (str, type(None))
TIMES = ("median_ms", "p20_ms", "p80_ms", "calls", "images_s", "gb_s", "percent_of_copy")
FIGURES = (*TIMES, "launches", "host_us", "peak_mb")
STATUSES = ("timed", "skipped", "failed", "red")
FIRST_CALL_TARGETS = {first_call.BUILT: 0.1, "nothing cached": 30.0, "cached": 1.0}

RESULT = {
    "schema": int,
    "machine": dict,
    "versions": dict,
    "commit": (dict, type(None)),
    "date": str,
    "quick": bool,
    "copy_gb_s": NUMBER,
    "cases": list,
    "scaling": list,
    "grid": (dict, type(None)),
    "host": list,
    "step": (dict, type(None)),
    "first_call": list,
}
MACHINE = {
    "device": str,
    "cpu": str,
    "cores": int,
    "threads": int,
    "gpu": TEXT_OR_NONE,
    "cuda": TEXT_OR_NONE,
    "driver": TEXT_OR_NONE,
    "system": str,
    "vector": str,
    "memory_gb": NUMBER,
    "load_before": NUMBER,
}
CASE = {
    "name": str,
    "title": str,
    "input": dict,
    "output": dict,
    "targets": dict,
    "gates": dict,
    "planned_launches": int,
    "floor": dict,
    "rows": list,
}
INPUT = {"shape": list, "dtype": str, "images": str, "batches": int}
OUTPUT = {"shape": list, "dtype": str, "layout": str}
FLOOR = {"source_bytes": int, "touched_bytes": int, "output_bytes": int}
GATE = {
    "passed": bool,
    "reason": TEXT_OR_NONE,
    "samples": int,
    "worst": NUMBER,
    "left_out": NUMBER,
    "touched": NUMBER,
}
ROW = {
    "provider": str,
    "library": str,
    "form": str,
    "work": str,
    "differs": TEXT_OR_NONE,
    "status": str,
    "reason": TEXT_OR_NONE,
    **dict.fromkeys(FIGURES, MAYBE),
}
FIRST_CALL = {
    "backend": str,
    "state": str,
    **dict.fromkeys(("import_s", "library_s", "first_s", "second_s"), NUMBER),
}


def problems(result: object) -> list[str]:
    """What is wrong with a result, by the schema above; empty if nothing is."""
    found = _members(result, RESULT, "result")
    if found:
        return found
    if result["schema"] != SCHEMA:
        return [f"schema {result['schema']}: this reader knows {SCHEMA}"]
    found += _members(result["machine"], MACHINE, "machine")
    for i, entry in enumerate(result["scaling"]):
        found += _members(entry, scaling.FIELDS, f"scaling[{i}]")
    for i, entry in enumerate(result["host"]):
        found += _members(entry, host_time.FIELDS, f"host[{i}]")
    if result["grid"] is not None:
        found += _members(result["grid"], {"batches": list, "formats": list}, "grid") or [
            problem
            for name, fields in (("batches", grid.BATCH_FIELDS), ("formats", grid.FORMAT_FIELDS))
            for i, entry in enumerate(result["grid"][name])
            for problem in _members(entry, fields, f"grid.{name}[{i}]")
        ]
    if result["step"] is not None:
        found += _members(result["step"], step.FIELDS, "step")
    for i, entry in enumerate(result["first_call"]):
        found += _members(entry, FIRST_CALL, f"first_call[{i}]")
    for i, case in enumerate(result["cases"]):
        found += _members(case, CASE, f"cases[{i}]") or _case_problems(case)
    return found


def _members(value: object, schema: Mapping, where: str) -> list[str]:
    """Members that are missing, unknown, or of another type."""
    if not isinstance(value, dict):
        return [f"{where} is {type(value).__name__}, not an object"]
    found = [f"{where} lacks {name}" for name in schema if name not in value]
    found += [f"{where} has an unknown member {name}" for name in value if name not in schema]
    for name, types in schema.items():
        types = types if isinstance(types, tuple) else (types,)
        wrong = name in value and not isinstance(value[name], types)
        if wrong or (name in value and isinstance(value[name], bool) and bool not in types):
            found.append(f"{where}.{name} is {value[name]!r}")
    return found


def _case_problems(case: Mapping) -> list[str]:
    where = f"case {case['name']}"
    found = _members(case["input"], INPUT, f"{where}.input") + _members(case["output"], OUTPUT, f"{where}.output")
    found += _members(case["floor"], FLOOR, f"{where}.floor")
    for name, verdict in case["gates"].items():
        found += _members(verdict, GATE, f"{where}.gates.{name}")
    for row in case["rows"]:
        found += _members(row, ROW, f"{where}.rows") or _row_problems(row, f"{where}, {row['provider']}")
    if found:
        return found
    red = not case["gates"] or not all(verdict["passed"] for verdict in case["gates"].values())
    if red and any(row["status"] == "timed" for row in case["rows"]):
        found.append(f"{where} has times behind a red gate")
    return found


def _row_problems(row: Mapping, where: str) -> list[str]:
    if row["status"] not in STATUSES:
        return [f"{where}: status {row['status']!r} is not one of {', '.join(STATUSES)}"]
    if row["status"] != "timed":
        found = [f"{where}: {row['status']}, yet it has {name}" for name in FIGURES if row[name] is not None]
        return found + ([] if row["reason"] else [f"{where}: {row['status']} without a reason"])
    found = [f"{where}: {name} is {row[name]!r}" for name in TIMES if not (row[name] is not None and row[name] > 0)]
    if not found and not row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]:
        found.append(f"{where}: the percentiles are out of order")
    return found


def render(result: Mapping) -> str:
    """The result as markdown."""
    machine, changed = result["machine"], result["commit"] and result["commit"]["dirty"]
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] > 1)
    at = (
        f"commit {result['commit']['hash'][:12]}" + ", with changes" * changed
        if result["commit"]
        else "no commit known"
    )
    lines = [f"# {machine['gpu'] or machine['cpu']}, {threads}", ""]
    lines += ["**A quick run: its times are noise.**", ""] if result["quick"] else []
    lines += [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {result['date']}, {at}.",
        f"Copy bandwidth {result['copy_gb_s']:.1f} GB/s, load before the run {machine['load_before']:.1f}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version) + ".",
    ]
    lines += ["", *_summary(result["cases"])]
    for case in result["cases"]:
        lines += ["", *_case_table(case)]
    if result["scaling"]:
        lines += ["", *_scaling_table(result["scaling"])]
    if result["grid"]:
        lines += ["", *_grid_tables(result["grid"])]
    if result["host"]:
        lines += ["", *_host_table(result["host"])]
    if result["first_call"]:
        lines += ["", *_first_call_table(result["first_call"])]
    forms = {row["provider"]: f"{row['form']}; {row['work']}" for case in result["cases"] for row in case["rows"]}
    return "\n".join([*lines, "", "## Providers", "", *(f"- {name}: {form}" for name, form in forms.items())])


def _ours(case: Mapping) -> Mapping | None:
    """The row that the peers are compared with: gpuaug's fastest."""
    rows = [row for row in case["rows"] if row["library"] == "gpuaug" and row["status"] == "timed"]
    return min(rows, key=lambda row: row["median_ms"], default=None)


def ratio(peer: Mapping, ours: Mapping) -> str:
    """How many times faster gpuaug is, or bold where it loses."""
    times = peer["median_ms"] / ours["median_ms"]
    return f"{times:.1f}x" if times >= 1 else f"**{times:.2f}x, a loss**"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _summary(cases: Sequence[Mapping]) -> list[str]:
    """How many times faster gpuaug is than each peer, by case."""
    names = list(dict.fromkeys(r["provider"] for c in cases for r in c["rows"] if r["library"] != "gpuaug"))
    names = [n for n in names if any(r["provider"] == n and r["status"] == "timed" for c in cases for r in c["rows"])]
    rows = []
    for case in cases:
        ours, by_name = _ours(case), {row["provider"]: row for row in case["rows"]}
        if ours is None:
            rows.append([case["name"], "no time", *("" for _ in names)])
            continue
        timed = [by_name.get(name, {"status": "skipped"}) for name in names]
        ratios = [ratio(row, ours) if row["status"] == "timed" else "-" for row in timed]
        rows.append([case["name"], f"{ours['images_s']:,.0f} ({ours['provider']})", *ratios])
    header = ["case", "gpuaug's best, images/s", *names]
    lines = ["## gpuaug against each peer: how many times faster (below 1 is a loss)", "", *_table(header, rows)]
    for case in cases:
        lines += _targets(case)
    return lines


README_PEERS = ("torchvision", "kornia", "albumentations", "timm")


def readme(result: Mapping) -> str:
    """README's table: gpuaug's images a second, and how many times faster that is than each library's fastest row that
    draws per sample in one process."""
    rows = []
    libraries = [name for name in README_PEERS if any(_fastest(case, name) for case in result["cases"])]
    for case in result["cases"]:
        ours = _ours(case)
        if ours is None:
            continue
        batch = case["input"]["shape"][0]
        cells = [f"{case['title']}; batch {batch}", f"{ours['images_s']:,.0f}"]
        for library in libraries:
            fastest = _fastest(case, library)
            cells.append("-" if fastest is None else ratio(fastest, ours))
        rows.append(cells)
    return "\n".join(_table(["pipeline", "gpuaug, images/s", *libraries], rows))


def _fastest(case: Mapping, library: str) -> Mapping | None:
    """A library's fastest row that draws per sample in one process."""
    rows = [r for r in case["rows"] if r["library"] == library and r["status"] == "timed" and is_equal(r)]
    return min(rows, key=lambda row: row["median_ms"], default=None)


def _targets(case: Mapping) -> list[str]:
    """Each target of a case, against the library's fastest row that draws per sample in one process."""
    ours = _ours(case)
    if ours is None or not case["targets"]:
        return []
    told = f"Targets of {case['name']}, against the library's fastest row that draws per sample in one process:"
    lines = ["", told, ""]
    for library, target in case["targets"].items():
        fastest = _fastest(case, library)
        if fastest is None:
            lines.append(f"- {library}: at least {target:g}x; not timed")
            continue
        times = fastest["median_ms"] / ours["median_ms"]
        met = "met" if times >= target else "**missed**"
        lines.append(f"- {library}: at least {target:g}x; {times:.1f}x ({fastest['provider']}), {met}")
    return lines


def is_equal(row: Mapping) -> bool:
    """Whether a peer's row draws per sample in one process."""
    return row["work"] == "per sample" and not row["provider"].endswith("-processes")


def _case_table(case: Mapping) -> list[str]:
    ends = [f"{case[end]['dtype']} [{' x '.join(str(n) for n in case[end]['shape'])}]" for end in ("input", "output")]
    megabytes = (case["floor"]["touched_bytes"] + case["floor"]["output_bytes"]) / 1e6
    lines = [f"## {case['name']}: {case['title']}, normalise", ""]
    lines.append(f"{ends[0]} ({case['input']['images']}) -> {ends[1]}, {case['output']['layout']}.")
    lines.append(f"At least {megabytes:.3g} MB to move; on a GPU {case['planned_launches']} launches of gpuaug.")
    for name, gate in case["gates"].items():
        told = f"green: {gate['samples']} samples, error at most {gate['worst']:.0%} of the limit"
        told += f", {gate['left_out']:.1%} of the pixels left out" if gate["left_out"] else ""
        lines.append(f"Gate {name}: " + (told if gate["passed"] else f"**RED**: {gate['reason']}") + ".")
    header = ["provider", "median", "p20 to p80", "images/s", "GB/s", "% of copy", "gpuaug's best is"]
    ours, rows, timed = _ours(case), [], [r for r in case["rows"] if r["status"] == "timed"]
    cuda, peak = (any(row[name] is not None for row in timed) for name in ("launches", "peak_mb"))
    header += ["launches", "host"] * cuda + ["peak MB"] * peak
    for row in timed:
        cells = [row["provider"], _time(row["median_ms"]), f"{_time(row['p20_ms'])} to {_time(row['p80_ms'])}"]
        cells += [f"{row['images_s']:,.0f}", f"{row['gb_s']:.3g}", f"{row['percent_of_copy']:.3g}"]
        cells.append("" if row is ours else ratio(row, ours))
        cells += [str(row["launches"]), _time(row["host_us"] / 1e3)] if cuda else []
        cells += ["-" if row["peak_mb"] is None else f"{row['peak_mb']:.1f}"] if peak else []
        rows.append(cells)
    lines += ["", *_table(header, rows)] if rows else []
    return lines + _notes(case["rows"])


def _time(milliseconds: float) -> str:
    if milliseconds >= 1e3:
        return f"{milliseconds / 1e3:.3g} s"
    return f"{milliseconds:.3g} ms" if milliseconds >= 1 else f"{milliseconds * 1e3:.3g} us"


def _notes(rows: Sequence[Mapping]) -> list[str]:
    """What a row does otherwise, and why a provider has no time."""
    lines = [f"- {r['provider']}: {r['differs']}" for r in rows if r["status"] == "timed" and r["differs"]]
    without = [r for r in rows if r["status"] in ("skipped", "failed")]
    lines += [f"- {r['provider']}: no time, {r['status']}: {r['reason']}" for r in without]
    lines += ["- no time for any other: a gate is red"] if any(r["status"] == "red" for r in rows) else []
    return ["", *lines] if lines else []


def _scaling_table(entries: Sequence[Mapping]) -> list[str]:
    lines = ["## As one thing grows: RandomResizedCrop and flip; for ops, a flip and colour ops"]
    for axis in dict.fromkeys(e["axis"] for e in entries):
        names = dict.fromkeys(e["provider"] for e in entries if e["axis"] == axis)
        points = dict.fromkeys(e["x"] for e in entries if e["axis"] == axis)
        rates = {name: dict(scaling.growth(entries, axis, name)) for name in names}
        rows = [
            [f"{name}, images/s", *(f"{rates[name][x]:,.0f}" if x in rates[name] else "-" for x in points)]
            for name in names
        ]
        lines += ["", *_table([axis, *map(str, points)], rows)]
    if (times := scaling.speedup(entries)) is not None:
        lines += ["", f"Two threads against one: {times:.2f}x."]
    if (share := scaling.cost_of_an_op(entries)) is not None:
        lines += ["", f"Each further pointwise colour op: {share:.1%} of a call without any."]
    return lines


def _grid_tables(found: Mapping) -> list[str]:
    """gpuaug's images a second, by case and batch, and by input and output."""
    sizes = sorted({e["batch"] for e in found["batches"]})
    rates = {(e["case"], e["batch"]): f"{e['images_s']:,.0f}" for e in found["batches"]}
    names = dict.fromkeys(case for case, _ in rates)
    rows = [[name, *(rates.get((name, size), "-") for size in sizes)] for name in names]
    lines = ["## gpuaug by batch, images/s", "", *_table(["case", *map(str, sizes)], rows)]
    kinds = list(dict.fromkeys(e["input"] for e in found["formats"]))
    cells = {
        (e["output"], e["layout"], e["input"]): f"{e['images_s']:,.0f} ({e['percent_of_copy']:.0f}%)"
        for e in found["formats"]
    }
    ends = dict.fromkeys(key[:2] for key in cells)
    rows = [[", ".join(end), *(cells.get((*end, kind), "-") for kind in kinds)] for end in ends]
    told = f"## gpuaug by input and output, {grid.BASE}: images/s, and % of copy"
    return [*lines, "", told, "", *_table(["output", *(f"from {kind}" for kind in kinds)], rows)]


def _host_table(entries: Sequence[Mapping]) -> list[str]:
    header = ["backend, pipeline, call", "median", "best round", "target, best round"]
    names = [", ".join(e[part] for part in ("backend", "pipeline", "call")) for e in entries]
    times = [[_time(e[figure] / 1e3) for figure in ("median_us", "best_us")] for e in entries]
    rows = [[name, *cells, host_time.verdict(e)] for name, cells, e in zip(names, times, entries, strict=True)]
    return ["## What a call costs the host: one image of 8 x 8, one thread", "", *_table(header, rows)]


def _first_call_table(entries: Sequence[Mapping]) -> list[str]:
    rows = []
    for entry in entries:
        target = FIRST_CALL_TARGETS[entry["state"]]
        met = f"at most {target:g}: " + ("met" if entry["first_s"] <= target else "**missed**")
        met = met if entry["backend"] == "cpu" else ""
        seconds = (f"{entry[name]:.2f}" for name in ("import_s", "library_s", "first_s", "second_s"))
        rows.append([f"{entry['backend']}, {entry['state']}", *seconds, met])
    header = ["backend", "import torch, gpuaug", "import its library", "first call", "second call", "target, s"]
    told = f"## The first call of {first_call.CASE}, in fresh processes (seconds)"
    return [told, "", *_table(header, rows)]


def main(paths: Sequence[str]) -> int:
    """Print the tables of result files (with --readme, README's); the exit status is 1 if one breaks the schema."""
    bad, show = 0, readme if "--readme" in paths else render
    for path in (path for path in paths if path != "--readme"):
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        if found := problems(result):
            bad = 1
            print(f"{path}: not a result of benchmarks.run: {'; '.join(found)}", file=sys.stderr)
        else:
            print(show(result), end="\n\n")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
