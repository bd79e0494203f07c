"""One case of the benchmark: gates first, then all providers in turn, then its part of the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from gpuaug import backends, explain
from gpuaug.lowering import lower
from gpuaug.program import Program

from . import gate, peers, report, timing
from .cases import Case, images_for
from .processes import Pool

QUICK_BATCH = 8


@dataclass
class Session:
    """What holds for all cases of one run.

    Attributes:
        pool: worker processes for the providers that want them, or None.
    """

    device: torch.device
    effort: timing.Effort
    providers: Sequence[peers.Provider]
    copy_bytes_s: float
    quick: bool
    pool: Pool | None


def run_case(session: Session, case: Case) -> dict:
    """Gate and time one case.

    Returns:
        A member of `cases` in the result (`benchmarks.report` has its fields).
    """
    case = replace(case, batch=min(case.batch, QUICK_BATCH), targets={}) if session.quick else case
    print(f"{case.name}: {case.title}", file=sys.stderr, flush=True)
    images, source = images_for(case)
    images = images.to(session.device)
    count = timing.batches_to_rotate(images.numel(), session.device)
    program = lower(case.ours("auto").transforms, frozenset({tuple(images.shape[-2:])}), 3, images.dtype)
    rows = [new_row(session, provider, case, program, images) for provider in session.providers]
    gates = {
        row["provider"]: judge(case, provider.backend, images)
        for provider, row in zip(session.providers, rows, strict=True)
        if provider.backend and row["status"] == "timed"
    }
    red = [f"{name}: {verdict.reason}" for name, verdict in gates.items() if not verdict.passed]
    red = red or ([] if gates else ["no backend of gpuaug can run"])
    result = {
        "name": case.name,
        "title": case.title,
        "input": {"shape": list(images.shape), "dtype": "uint8", "images": source, "batches": count},
        "output": {
            "shape": [case.batch, 3, case.out_size, case.out_size],
            "dtype": str(case.dtype).removeprefix("torch."),
            "layout": peers.layout(case),
        },
        "targets": dict(case.targets) if session.device.type == "cpu" else {},
        "gates": {name: verdict.as_dict() for name, verdict in gates.items()},
        "planned_launches": explain.launches(program),
        "floor": floor(program, images, list(gates.values())),
        "rows": rows,
    }
    if red:
        print(f"RED GATE, no times for {case.name}: {'; '.join(red)}", file=sys.stderr, flush=True)
        for row in rows:
            if row["status"] == "timed":
                row |= {"status": "red", "reason": f"red gate: {'; '.join(red)}"}
        return result
    batches = [images.roll(k, 0) for k in range(count)]
    measure(session, case, build(session, case, batches, rows), rows, result["floor"], count)
    return result


def new_row(session: Session, provider: peers.Provider, case: Case, program: Program, images: torch.Tensor) -> dict:
    """A provider's row without figures: to be "timed", or "skipped" and why."""
    reason = provider.reason_against(case, session.device, session.pool)
    if provider.backend and not reason:
        with suppress(Exception):  # a backend that cannot even say so turns the gate red
            reason = backends.reason_against(provider.backend, program, images, grad=False)
    row = {"provider": provider.name, "library": provider.library, "form": provider.form, "work": provider.work}
    row |= {"differs": case.differs.get(provider.key)}
    row |= {"status": "skipped" if reason else "timed", "reason": reason}
    return row | dict.fromkeys(report.FIGURES)


def judge(case: Case, backend: str, images: torch.Tensor) -> gate.Verdict:
    """The gate's verdict on one of our backends; an exception is a red gate too."""
    try:
        return gate.parity(case.ours(backend), images)
    except Exception as error:
        return gate.Verdict(False, f"{type(error).__name__}: {error}")


def floor(program: Program, images: torch.Tensor, gates: Sequence[gate.Verdict]) -> dict:
    """The bytes that any implementation must move: of the source what the gate's samples touched, and the output."""
    source, output = explain.floor_bytes(program, images)
    touched = sum(verdict.touched for verdict in gates) / len(gates) if gates else 1.0
    return {"source_bytes": source, "touched_bytes": round(source * touched), "output_bytes": output}


def build(session: Session, case: Case, batches: Sequence[torch.Tensor], rows: Sequence[dict]) -> dict[str, peers.Call]:
    """The calls of all providers that work, by name; a peer that raises, or does other work, gets its reason."""
    calls: dict[str, peers.Call] = {}
    expected = None
    for provider, row in zip(session.providers, rows, strict=True):
        if row["status"] != "timed":
            continue
        try:
            make = session.pool.build if provider.processes else _build_here
            call = provider.delivers(case, make(provider, case, batches, session.device))
            output = call(0)
            expected = output if provider.backend and expected is None else expected
            like = expected if provider.work == peers.PER_SAMPLE else None  # else its mean hangs on one draw
            reason = peers.complaint(output, case, session.device, like)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason:
            fail(row, reason)
        else:
            calls[provider.name] = call
    return calls


def fail(row: dict, reason: str) -> None:
    """Say in a provider's row, and on the screen, why it has no figures."""
    row |= {"status": "failed", "reason": reason}
    print(f"  {row['provider']} failed: {reason}", file=sys.stderr, flush=True)


def _build_here(provider: peers.Provider, case: Case, batches: Sequence, device: torch.device) -> peers.Call:
    return provider.build(case, batches, device)


def measure(
    session: Session, case: Case, calls: dict[str, peers.Call], rows: Sequence[dict], floor: dict, count: int
) -> None:
    """Time all calls and fill their rows."""
    device = session.device
    failed: dict[str, str] = {}
    times = timing.interleave(calls, count, device, session.effort, failed)
    for provider, row in zip(session.providers, rows, strict=True):
        if row["provider"] in failed:
            fail(row, failed[row["provider"]])
        if row["provider"] not in times:
            continue
        seconds, host = times[row["provider"]]
        row |= timing.spread(seconds)
        call_s = row["median_ms"] / 1e3
        moved = floor["touched_bytes"] + floor["output_bytes"]
        peak = None if provider.processes else timing.peak_bytes(calls[row["provider"]], device)
        row |= {
            "calls": len(seconds),
            "images_s": case.batch / call_s,
            "gb_s": moved / call_s / 1e9,
            "percent_of_copy": 100 * moved / call_s / session.copy_bytes_s,
            "launches": timing.launches(calls[row["provider"]], device),
            "host_us": host * 1e6 if device.type == "cuda" else None,
            "peak_mb": None if peak is None else peak / 1e6,
        }
