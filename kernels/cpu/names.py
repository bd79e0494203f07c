"""The C functions of the CPU engine by name: what backends ask for, and what is built ahead. Imports no compiler."""

import itertools
from typing import Any

from ..shared import blend, draw, geometry, pixel, user
from ..shared import plan as P
from . import frame as F

KINDS = {F.U8: "u8", F.F32: "f32", F.BF16: "bf16", F.F16: "f16"}
CALLED = {"run_rows": 3, "run_outputs": 3, "run_texts": 3, "take_samples": 3}  # arguments: whole numbers, as the result
CARRIES = ("box_walk", "point_walk")  # void, of one address
PHASES = {
    F.WIDEN: "widen_phase",
    F.PREPARE: "prepare_phase",
    F.NEAREST_LINES: "nearest_phase",
    F.COPY_LINES: "copy_phase",
    F.SMOOTH_LINES: "smooth_phase",
    F.POINTS: "points_phase",
    F.FINISH: "finish_phase",
    F.NEIGHBOURS: "neighbours_phase",
    F.JPEG: "jpeg_phase",
    F.ELASTIC: "elastic_phase",
    F.PLACES: "places_phase",
    F.KEEP: ("store", F.F32, False, ()),
    F.KEEP_PACKED: "packed_phase",
    F.ASKS + P.MEAN: "mean_phase",
    F.ASKS + P.EXTREMES: "extremes_phase",
    F.ASKS + P.HISTOGRAM: "histogram_phase",
}
EQUALIZE = "equalize_phase"  # a loop, by its place among the phases
CONVERT, NORMALIZE = (
    next(k for k, name in pixel.CASES.items() if name == wanted) for wanted in ("convert", "normalize")
)
TAILS = ((), ((CONVERT, True),), ((CONVERT, False),), ((NORMALIZE, False),), ((CONVERT, True), (NORMALIZE, False)))


def _stage(lattice: bool) -> str:
    return "lattice" if lattice else "float"


def symbol(key: Any) -> str:
    """The C name of a key of `engine.get`; that of a user's op stands for its content.

    A key is a name, of `CALLED`, `CARRIES`, `PHASES`, of a draw or of a geometry function; the loop of a pixel step
    (opcode, lattice, grey); the store of a tile ("store", kind, strided, one of `TAILS`); or the blend of layers
    ("blend", opcode, kind of the layers).
    """
    if isinstance(key, str):
        return f"gpuaug_{key}"
    first, *rest = key
    if first == "store":
        kind, strided, tail = rest
        words = ["store", KINDS[kind], "strided" if strided else "planar"]
        words += [f"{pixel.CASES[opcode]}_{_stage(lattice)}" for opcode, lattice in tail]
    elif first == "blend":
        words = ["blend", blend.CASES[rest[0]], KINDS[rest[1]]]
    else:
        lattice, grey = rest
        own = user.FORMULAS.get(first)
        name = pixel.CASES[first] if own is None else f"{own.name}_{own.digest()[:16]}"
        words = ["loop", name, _stage(lattice), "grey" if grey else "colour"]
    return f"gpuaug_{'_'.join(words)}"


def every() -> list:
    """The keys of all functions that the ops of gpuaug can ask for, those first that take long to compile."""
    phases = [name for name in PHASES.values() if isinstance(name, str)]
    two = (False, True)
    keys: list = [*CALLED, "finish_phase", *phases, EQUALIZE, *CARRIES]
    keys += [("blend", opcode, kind) for opcode in blend.CASES for kind in (F.U8, F.F32)]
    keys += [("store", *rest) for rest in itertools.product(KINDS, two, TAILS)]
    keys += itertools.product(pixel.CASES, two, two)
    return list(dict.fromkeys([*keys, *draw.CASES.values(), *geometry.CASES.values()]))
