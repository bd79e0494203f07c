"""The numbers that stand in a program for what ops are lowered by name."""

from .kernels.shared import blend, draw, geometry, pixel, plan

BORDERS = {
    "constant": geometry.FILL,
    "edge": geometry.EDGE,
    "reflect": geometry.REFLECT,
    "symmetric": geometry.SYMMETRIC,
    "drop": geometry.DROP,
}
NEEDS = {
    "pixel": plan.POINTWISE,
    "mean": plan.MEAN,
    "extremes": plan.EXTREMES,
    "histogram": plan.HISTOGRAM,
    "neighbours": plan.NEIGHBOURS,
    "place": plan.PLACE,
}
GEOMETRY = {name: code for code, name in geometry.CASES.items()}
PIXEL = {name: code for code, name in (pixel.CASES | pixel.LOOPS).items()}
BLENDS = {name: code for code, name in blend.CASES.items()}
DRAWS = {name: code for code, name in draw.CASES.items()}
