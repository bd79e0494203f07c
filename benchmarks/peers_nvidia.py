"""DALI and CV-CUDA as peers. DALI was run on a CPU; neither was ever run on a GPU.

DALI's pipelines are graphs: `Case.ops["nvidia.dali"]` names steps of DALI. The graph runs one call at a time, with
nothing fetched ahead, as all other providers do. CV-CUDA has operators: `Case.ops["cvcuda"]` names steps too, of
which a crop, the flip and the normalisation are one operator, written after its stubs and tests (0.19).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .cases import AFFINE, JITTER, Case

Call = Callable[[int], torch.Tensor]
LEFT_AS_IT_IS, MIRRORED = 2, 1  # CV-CUDA's flip codes


def _between(low: float, high: float) -> Any:
    from nvidia.dali import fn

    return fn.random.uniform(range=(low, high))


def _whole(most: int) -> Any:
    """An integer in [-most, most], as a float."""
    from nvidia.dali import fn

    return fn.random.uniform(values=[float(v) for v in range(-most, most + 1)])


def _dali_resized_crop(images: Any, case: Case) -> Any:
    from nvidia.dali import fn

    return fn.random_resized_crop(images, size=(case.out_size, case.out_size), antialias=True)


def _dali_padded_crop(images: Any, case: Case) -> Any:
    from nvidia.dali import fn, types

    start = fn.cast(fn.stack(_whole(4), _whole(4)), dtype=types.INT32)
    plain = dict(normalized_anchor=False, normalized_shape=False, axes=(0, 1))
    shape = [case.out_size, case.out_size]
    return fn.slice(images, start, shape, **plain, out_of_bounds_policy="pad", fill_values=0)


def _dali_color_jitter(images: Any, case: Case) -> Any:
    from nvidia.dali import fn

    drawn = {name: _between(1 - JITTER[name], 1 + JITTER[name]) for name in ("brightness", "contrast", "saturation")}
    return fn.color_twist(images, **drawn, hue=_between(-360 * JITTER["hue"], 360 * JITTER["hue"]))


def _dali_affine(images: Any, case: Case) -> Any:
    from nvidia.dali import fn, types

    size, centre = _between(*AFFINE["scale"]), [case.size / 2] * 2
    most = [round(share * case.size) for share in AFFINE["translate"]]
    matrix = fn.transforms.scale(scale=fn.stack(size, size), center=centre)
    matrix = fn.transforms.rotation(matrix, angle=_between(-AFFINE["degrees"], AFFINE["degrees"]), center=centre)
    matrix = fn.transforms.translation(matrix, offset=fn.stack(*map(_whole, most)))
    return fn.warp_affine(images, matrix=matrix, inverse_map=False, fill_value=0, interp_type=types.INTERP_LINEAR)


def _dali_randaugment(images: Any, case: Case) -> Any:
    from nvidia.dali import types
    from nvidia.dali.auto_aug.rand_augment import rand_augment

    kind = dict(n=2, m=9, num_magnitude_bins=31, monotonic_mag=False)
    return rand_augment(images, **kind, shape=(case.out_size, case.out_size), fill_value=0, interp_type=types.INTERP_NN)


def _dali_trivialaugment(images: Any, case: Case) -> Any:
    from nvidia.dali import types
    from nvidia.dali.auto_aug.trivial_augment import trivial_augment_wide

    shape = (case.out_size, case.out_size)
    return trivial_augment_wide(images, shape=shape, fill_value=0, interp_type=types.INTERP_NN)


DALI = {
    "random_resized_crop": _dali_resized_crop,
    "padded_crop": _dali_padded_crop,
    "color_jitter": _dali_color_jitter,
    "affine": _dali_affine,
    "randaugment": _dali_randaugment,
    "trivialaugment": _dali_trivialaugment,
}


def dali(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    """A DALI pipeline that ends in crop_mirror_normalize, its output taken over without a copy."""
    from nvidia.dali import fn, pipeline_def, types

    steps = case.ops["nvidia.dali"]()
    tail = dict(output_layout="CHW", dtype=types.FLOAT)
    tail |= dict(mean=[255 * v for v in case.mean], std=[255 * v for v in case.std])

    def graph() -> Any:
        images = fn.external_source(name="images", device=place, batch=True, layout="HWC", no_copy=True)
        for step in steps:
            images = DALI[step](images, case) if step in DALI else images
        more = dict(mirror=fn.random.coin_flip(probability=0.5)) if "flip" in steps else {}
        if "crop" in steps:
            more |= dict(crop=(case.out_size, case.out_size), crop_pos_x=_between(0, 1), crop_pos_y=_between(0, 1))
        return fn.crop_mirror_normalize(images, **tail, **more)

    cuda = device.type == "cuda"
    place, number = ("gpu", device.index or 0) if cuda else ("cpu", None)
    kind = dict(num_threads=torch.get_num_threads(), device_id=number, prefetch_queue_depth=1, exec_dynamic=True)
    pipe = pipeline_def(graph, batch_size=case.batch, **kind, seed=1, enable_conditionals=True)()
    rows = [list(batch.permute(0, 2, 3, 1).contiguous()) for batch in batches]
    images = rows if cuda else [[image.numpy() for image in row] for row in rows]

    def call(i: int) -> torch.Tensor:
        stream = torch.cuda.current_stream(device) if cuda else None
        (out,) = pipe.run(stream, images=images[i])
        return torch.from_dlpack(out.as_tensor())

    return call


def cvcuda(case: Case, batches: Sequence[torch.Tensor], device: torch.device) -> Call:
    """RandomResizedCrop where the case has one, then crop, flip and normalise in one operator; draws on the device."""
    import cvcuda as cv
    import numpy as np

    steps, side, b = case.ops["cvcuda"](), case.out_size, case.batch
    rows = [list(batch.permute(0, 2, 3, 1).contiguous()) for batch in batches]
    images = [cv.as_images(row, cv.Format.RGB8) for row in rows]
    mean, std = (
        cv.as_tensor(255 * torch.tensor(v, device=device).view(1, 1, 1, 3), "NHWC") for v in (case.mean, case.std)
    )
    seeds = iter(range(1, 1 << 31))

    def call(i: int) -> torch.Tensor:
        found = images[i]
        stream = cv.as_stream(torch.cuda.current_stream(device))
        if "random_resized_crop" in steps:
            found = cv.random_resized_crop(
                found, [(side, side)] * b, interp=cv.Interp.LINEAR, seed=next(seeds), stream=stream
            )
        window = torch.zeros((b, 1, 1, 4), dtype=torch.int32, device=device)
        window[..., 2:] = side
        if "crop" in steps:
            window[..., :2] = torch.randint(0, case.size - side + 1, (b, 1, 1, 2), device=device)
        codes = torch.full((b, 1), LEFT_AS_IT_IS, dtype=torch.int32, device=device)
        if "flip" in steps:
            codes[torch.rand(b, 1, device=device) < 0.5] = MIRRORED
        out = cv.crop_flip_normalize_reformat(
            found,
            (b, 3, side, side),
            np.float32,
            "NCHW",
            cv.as_tensor(window, "NHWC"),
            cv.as_tensor(codes, "NC"),
            mean,
            std,
            flags=cv.NormalizeFlags.SCALE_IS_STDDEV,
            stream=stream,
        )
        return torch.as_tensor(out.cuda(), device=device)

    return call
