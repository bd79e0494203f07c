"""`gpuaug.functional` on every kind that torchvision's takes, against torchvision's: forms, formats, dtypes, axes in
front, kernels by kind."""

from __future__ import annotations

import inspect
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor
from torchvision import tv_tensors as tv
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
import gpuaug.functional as G

H, W = 23, 31
UPRIGHT, ROTATED = ("XYXY", "XYWH", "CXCYWH"), ("XYWHR", "CXCYWHR", "XYXYXYXY")
CORNERS = [[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]]
START = [[2, 1], [W - 4, 0], [W - 1, H - 3], [0, H - 1]]
END = [[0, 0], [W - 1, 2], [W - 5, H - 1], [3, H - 4]]
SHIFT = [1.1, 0.1, -2.3, -0.05, 0.9, 1.7, 0.001, -0.002]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lattice(*shape: int, seed: int = 0, high: int = 256, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, high, shape, generator=generator(seed)).to(dtype)


def smooth(*lead: int) -> Tensor:
    small = torch.rand(*lead, 4, 5, generator=generator(1))
    found = torch.nn.functional.interpolate(small.flatten(0, -3)[None], (H, W), mode="bicubic", align_corners=False)
    return found[0].clamp(0, 1).view(*lead, H, W)


def boxes(format: str, dtype: torch.dtype = torch.float32, n: int = 5) -> tv.BoundingBoxes:
    numbers = torch.rand(n, 5, generator=generator(2))
    at, size = numbers[..., :2] * torch.tensor([0.6 * W, 0.6 * H]), numbers[..., 2:4] * 8 + 2
    if format in UPRIGHT:
        made = F.convert_bounding_box_format(torch.cat((at, at + size), -1), "XYXY", format)
    else:
        turned = torch.cat((at, size, numbers[..., 4:] * 180 - 90), -1)
        made = F.convert_bounding_box_format(turned, "XYWHR", format)
    return tv.BoundingBoxes(made.to(dtype), format=format, canvas_size=(H, W))


def keypoints(*lead: int) -> tv.KeyPoints:
    at = torch.rand(*lead, 2, generator=generator(3)) * torch.tensor([float(W), float(H)])
    return tv.KeyPoints(at, canvas_size=(H, W))


FIELD = (torch.rand(1, H, W, 2, generator=generator(4)) - 0.5) * 0.3
MOVES: list[tuple[str, dict[str, Any]]] = [
    ("horizontal_flip", {}),
    ("vertical_flip", {}),
    ("crop", {"top": 2, "left": 3, "height": 9, "width": 11}),
    ("crop", {"top": -3, "left": -4, "height": 12, "width": 13}),
    ("crop", {"top": 15, "left": 20, "height": 20, "width": 19}),
    ("center_crop", {"output_size": [9]}),
    ("center_crop", {"output_size": [40, 12]}),
    ("pad", {"padding": [1, 2, 3, 4], "fill": None}),
    ("pad", {"padding": [2], "fill": 1}),
    ("resize", {"size": [12, 17], "interpolation": "nearest"}),
    ("resize", {"size": [12, 17], "interpolation": "nearest-exact"}),
    ("resize", {"size": 40}),
    ("resize", {"size": [11], "max_size": 12}),
    ("resize", {"size": None, "max_size": 44}),
    ("resized_crop", {"top": 2, "left": 3, "height": 12, "width": 14, "size": [8, 9]}),
    ("resized_crop", {"top": 2, "left": 3, "height": 12, "width": 14, "size": 9}),
    ("resized_crop", {"top": -2, "left": -3, "height": 12, "width": 14, "size": [18, 9]}),
    ("rotate", {"angle": 33.0}),
    ("rotate", {"angle": 33.0, "expand": True}),
    ("rotate", {"angle": 20.0, "center": [3.0, 4.0], "fill": [1.0]}),
    ("affine", {"angle": 20.0, "translate": [3, -2], "scale": 1.2, "shear": [5.0, 3.0]}),
    ("affine", {"angle": 20.0, "translate": [3, -2], "scale": 0.8, "shear": [5.0], "center": [0, 0], "fill": 1}),
    ("perspective", {"startpoints": CORNERS, "endpoints": END, "interpolation": "nearest"}),
    ("perspective", {"startpoints": START, "endpoints": END, "interpolation": "nearest"}),
    ("perspective", {"startpoints": None, "endpoints": None, "coefficients": SHIFT, "interpolation": "nearest"}),
    ("elastic", {"displacement": FIELD, "interpolation": "nearest"}),
    ("elastic", {"displacement": FIELD, "interpolation": "nearest", "fill": 1}),
]
GIVEN = {
    "uint8": lattice(3, H, W),
    "float": smooth(2, 3),
    "clip": lattice(2, 4, 3, H, W),
    "many axes": smooth(2, 1, 2, 3)[:, :, None],
    "none": torch.zeros(5, 0, 3, H, W),
    "Image": tv.Image(lattice(3, H, W)),
    "Video": tv.Video(lattice(4, 3, H, W)),
    "Mask": tv.Mask(lattice(4, H, W, high=9, dtype=torch.int64)),
    "bool Mask": tv.Mask(lattice(H, W, high=2, dtype=torch.bool)),
    "no Mask": tv.Mask(torch.zeros(0, H, W, dtype=torch.uint8)),
    **{format: boxes(format) for format in (*UPRIGHT, *ROTATED)},
    "int XYXY": boxes("XYXY", torch.int64),
    "KeyPoints": keypoints(6),
    "KeyPoints [N, K, 2]": keypoints(6, 3),
}
TIES = 0.02  # of the pixels read nearest, where rounding decides; of whole-number boxes, which are truncated


def assert_like(got: Any, expected: Any, told: str) -> None:
    """The same type, shape and canvas, and values within rounding."""
    if isinstance(expected, tuple):
        assert type(got) is tuple and len(got) == len(expected), told
        for one, other in zip(got, expected, strict=True):
            assert_like(one, other, told)
        return
    if not isinstance(expected, Tensor):
        assert got == expected, told
        return
    assert type(got) is type(expected) and got.dtype == expected.dtype and got.shape == expected.shape, told
    for trait in ("canvas_size", "format", "clamping_mode"):
        assert getattr(got, trait, None) == getattr(expected, trait, None), told
    slack = 1e-3 if got.is_floating_point() else 1.0 if got.dtype == torch.uint8 else 0.0
    off = (got.as_subclass(Tensor).double() - expected.as_subclass(Tensor).double()).abs() > slack
    assert off.double().mean() <= (TIES if got.dim() > 1 and got.shape[-1] > 8 else 0.0) or not off.numel(), told


@pytest.mark.parametrize("case", range(len(MOVES)), ids=lambda i: f"{i}-{MOVES[i][0]}")
def test_geometry_of_every_kind(case: int) -> None:
    name, arguments = MOVES[case]
    for kind, given in GIVEN.items():
        before = given.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = getattr(F, name)(given, **arguments)
            got = getattr(G, name)(given, **arguments, backend="kornia")
        if kind == "int XYXY" and name in ("perspective", "resized_crop"):
            continue  # torchvision truncates in between
        assert_like(got, expected, f"{name} {kind}")
        assert torch.equal(given, before), "what was given stays"


@pytest.mark.parametrize("case", range(len(MOVES)), ids=lambda i: f"{i}-{MOVES[i][0]}")
def test_kernels_by_kind(case: int) -> None:
    name, arguments = MOVES[case]
    kinds = {"image": GIVEN["float"], "video": GIVEN["clip"], "mask": GIVEN["Mask"], "keypoints": GIVEN["KeyPoints"]}
    plain = [(kind, value, {}) for kind, value in kinds.items()]
    for format in (*UPRIGHT, *ROTATED):
        value = GIVEN[format]
        plain.append(("bounding_boxes", value, {"format": value.format, "clamping_mode": "hard"}))
    for kind, value, told in plain:
        own, theirs = getattr(G, f"{name}_{kind}"), getattr(F, f"{name}_{kind}")
        known = inspect.signature(theirs).parameters
        words = {k: v for k, v in {**arguments, **told, "canvas_size": (H, W)}.items() if k in known}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(value.as_subclass(Tensor), **words)
            assert_like(own(value.as_subclass(Tensor), **words), expected, f"{own.__name__} {told}")


PIXELS: list[tuple[str, dict[str, Any]]] = [
    ("adjust_brightness", {"brightness_factor": 1.3}),
    ("adjust_contrast", {"contrast_factor": 0.7}),
    ("adjust_gamma", {"gamma": 1.4}),
    ("adjust_hue", {"hue_factor": 0.2}),
    ("adjust_saturation", {"saturation_factor": 1.4}),
    ("adjust_sharpness", {"sharpness_factor": 2.0}),
    ("autocontrast", {}),
    ("equalize", {}),
    ("erase", {"i": 2, "j": 3, "h": 4, "w": 5, "v": torch.tensor([0.0, 0.5, 1.0])[:, None, None]}),
    ("erase", {"i": 2, "j": 3, "h": 4, "w": 5, "v": torch.rand(3, 4, 5, generator=generator(5))}),
    ("five_crop", {"size": [9]}),
    ("gaussian_blur", {"kernel_size": [3, 5], "sigma": [1.2]}),
    ("get_dimensions", {}),
    ("get_num_channels", {}),
    ("get_size", {}),
    ("grayscale_to_rgb", {}),
    ("invert", {}),
    ("jpeg", {"quality": 60}),
    ("normalize", {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}),
    ("permute_channels", {"permutation": [2, 0, 1]}),
    ("posterize", {"bits": 3}),
    ("rgb_to_grayscale", {"num_output_channels": 3}),
    ("solarize", {"threshold": 0.5}),
    ("ten_crop", {"size": [9, 10], "vertical_flip": True}),
    ("to_dtype", {"dtype": torch.float32, "scale": True}),
]


@pytest.mark.parametrize("case", range(len(PIXELS)), ids=lambda i: f"{i}-{PIXELS[i][0]}")
def test_pixels_of_every_kind(case: int) -> None:
    name, arguments = PIXELS[case]
    own, theirs = getattr(G, name), getattr(F, name)
    computes = "backend" in inspect.signature(own).parameters
    taken = 0
    for kind, given in GIVEN.items():
        try:
            expected = theirs(given, **arguments)
        except (TypeError, RuntimeError) as error:  # jpeg: of floats
            if isinstance(error, TypeError) and not isinstance(given, tv.Video):
                with pytest.raises(TypeError, match=name):
                    own(given, **arguments)
            continue
        got = own(given, **arguments, **({"backend": "kornia"} if computes else {}))
        if given.numel() or name not in ("jpeg",):
            assert_like(got, expected, f"{name} {kind}")
            taken += 1
    assert taken


def test_pillow_images_come_back() -> None:
    picture = F.to_pil_image(GIVEN["uint8"])
    for name, arguments in [
        *MOVES[:9],
        *MOVES[11:14],
        ("rotate", {"angle": 90.0}),
        ("invert", {}),
        ("five_crop", {"size": 9}),
    ]:
        got, expected = getattr(G, name)(picture, **arguments), getattr(F, name)(picture, **arguments)
        for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, expected)), strict=True):
            assert isinstance(one, Pillow.Image) and (one.mode, one.size) == (other.mode, other.size), name
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1, name
    for mode in ("L", "RGBA", "P", "1", "I", "F", "LA"):
        given = picture.convert(mode)
        got, expected = G.crop(given, 2, 3, 9, 11), F.crop(given, 2, 3, 9, 11)
        assert got.mode == expected.mode and np.array_equal(np.asarray(got), np.asarray(expected)), mode
        assert torch.equal(G.pil_to_tensor(given), F.pil_to_tensor(given))
    array = np.asarray(picture)
    assert np.array_equal(G.horizontal_flip(array), array[:, ::-1])


def test_conversions() -> None:
    picture = F.to_pil_image(GIVEN["uint8"])
    for given in (picture, np.asarray(picture), np.asarray(picture)[..., 0], GIVEN["uint8"]):
        assert_like(G.to_image(given), F.to_image(given), "to_image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for given in (picture, np.asarray(picture), picture.convert("1"), picture.convert("I")):
            assert_like(G.to_tensor(given), F.to_tensor(given), "to_tensor")
        assert G.get_image_size(picture) == F.get_image_size(picture) == [W, H]
    made = 0
    for given in (lattice(3, 4, 5), lattice(4, 5), smooth(3), lattice(1, 4, 5, dtype=torch.int16), lattice(2, 4, 5)):
        for mode in (None, "RGB", "L", "F", "HSV", "LA"):
            try:
                expected = F.to_pil_image(given, mode)
            except (ValueError, TypeError):
                with pytest.raises((ValueError, TypeError), match="to_pil_image"):
                    G.to_pil_image(given, mode)
                continue
            got, made = G.to_pil_image(given, mode), made + 1
            assert got.mode == expected.mode and np.array_equal(np.asarray(got), np.asarray(expected))
    assert made == 11
    for given in (GIVEN["clip"], GIVEN["Video"]):
        assert_like(G.uniform_temporal_subsample(given, 3), F.uniform_temporal_subsample(given, 3), "frames")
        assert G.get_num_frames(given) == F.get_num_frames(given) == 4


@pytest.mark.parametrize("before", [torch.uint8, torch.int16, torch.int64, torch.uint16, torch.float32, torch.bool])
def test_dtypes(before: torch.dtype) -> None:
    top = 2 if before == torch.bool else 200
    given = smooth(3) if before.is_floating_point else lattice(3, 4, 5, high=top, dtype=before)
    for after in (torch.uint8, torch.int8, torch.int32, torch.int64, torch.uint16, torch.float64, torch.float32):
        for scale in (False, True):
            try:
                expected = F.to_dtype(given, after, scale)
            except (RuntimeError, TypeError) as error:
                with pytest.raises(type(error)):
                    G.to_dtype(given, after, scale)
                continue
            got = G.to_dtype(given, after, scale)
            assert got.dtype == after and (got.double() - expected.double()).abs().max() <= 1e-6, (after, scale)
        mask = tv.Mask(lattice(4, 5))
        assert G.to_dtype(mask, after).dtype == after and type(G.to_dtype(mask, after)) is tv.Mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("format", [*UPRIGHT, *ROTATED])
def test_boxes_alone(format: str, dtype: torch.dtype) -> None:
    if dtype == torch.int64 and format in ROTATED:
        return  # torchvision has no such
    given = boxes(format, dtype)
    shifted = given.as_subclass(Tensor).clone()
    shifted[:, :2] += 12 if format != "XYXYXYXY" else 0
    far = tv.wrap(shifted, like=given)
    for new in (*UPRIGHT, *ROTATED):
        if (new in ROTATED) != (format in ROTATED):
            with pytest.raises(ValueError, match="rotated"):
                G.convert_bounding_box_format(given, new_format=new)
            continue
        assert_like(
            G.convert_bounding_box_format(given, new_format=new.lower()),
            F.convert_bounding_box_format(given, new_format=new.lower()),
            new,
        )
        plain = given.as_subclass(Tensor)
        expected = F.convert_bounding_box_format(plain, given.format, new)
        assert_like(G.convert_bounding_box_format(plain, given.format, new), expected, new)
    for mode in ("auto", "soft", "hard", None):
        got = G.clamp_bounding_boxes(far, clamping_mode=mode)
        assert_like(got, F.clamp_bounding_boxes(far, clamping_mode=mode), f"clamp {mode}")
    assert_like(G.sanitize_bounding_boxes(far, min_size=3), F.sanitize_bounding_boxes(far, min_size=3), "sanitize")
    plain = far.as_subclass(Tensor)
    told = {"format": format, "canvas_size": (H, W)}
    assert_like(G.sanitize_bounding_boxes(plain, **told), F.sanitize_bounding_boxes(plain, **told), "sanitize")


def test_keypoints_alone() -> None:
    for given in (keypoints(6), keypoints(6, 3)):
        far = tv.wrap(given.as_subclass(Tensor) * 2 - 20, like=given)
        assert_like(G.clamp_keypoints(far), F.clamp_keypoints(far), "clamp")
        assert_like(G.sanitize_keypoints(far), F.sanitize_keypoints(far), "sanitize")
        plain = far.as_subclass(Tensor)
        assert_like(G.sanitize_keypoints(plain, (H, W)), F.sanitize_keypoints(plain, (H, W)), "sanitize")


def test_what_boxes_and_keypoints_refuse() -> None:
    plain, known = boxes("XYXY").as_subclass(Tensor), boxes("XYXY")
    for call, kind, told in (
        (lambda: G.convert_bounding_box_format(plain, "XYXY"), TypeError, "new_format"),
        (lambda: G.convert_bounding_box_format(plain, new_format="XYWH"), ValueError, "old_format"),
        (lambda: G.convert_bounding_box_format(known, "XYXY", "XYWH"), ValueError, "old_format"),
        (lambda: G.clamp_bounding_boxes(plain), ValueError, "format"),
        (lambda: G.clamp_bounding_boxes(plain, "XYXY", (H, W)), ValueError, "clamping_mode"),
        (lambda: G.clamp_bounding_boxes(known, "XYXY"), ValueError, "format"),
        (lambda: G.sanitize_bounding_boxes(known, canvas_size=(H, W)), ValueError, "canvas_size"),
        (lambda: G.clamp_keypoints(keypoints(3), (H, W)), ValueError, "canvas_size"),
        (lambda: G.clamp_keypoints(known), TypeError, "BoundingBoxes"),
        (lambda: G.horizontal_flip_bounding_boxes(known, "XYXY", (H, W)), TypeError, "BoundingBoxes"),
        (lambda: G.rotate(keypoints(2, 3), [0.0, 45.0], expand=True), ValueError, "one canvas"),
        (lambda: G.pad(tv.Mask(lattice(H, W)), 1, fill=[1, 2]), ValueError, "one number"),
    ):
        with pytest.raises(kind, match=told):
            call()


def test_unknown_types_are_named() -> None:
    for name in G.__all__:
        function = getattr(G, name)
        if name in ("InterpolationMode", "register_kernel", "is_pure_tensor"):
            continue
        needed = [p for p in list(inspect.signature(function).parameters.values())[1:] if p.default is p.empty]
        words = {p.name: (H, W) if p.name == "canvas_size" else "XYXY" if p.name == "format" else 1 for p in needed}
        words |= {"new_format": "XYXY"} if name == "convert_bounding_box_format" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(TypeError, match="<class 'object'>"):
                function(object(), **words)


def test_values_per_sample_go_along() -> None:
    angles, shifts = torch.tensor([10.0, -50.0]), torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    words = {"translate": shifts, "scale": [1.1, 0.9], "shear": 0.0}
    given = {"mask": tv.Mask(lattice(2, H, W, high=9)), "masks": tv.Mask(lattice(2, 4, H, W, high=9))}
    given |= {"keypoints": keypoints(2, 5), "images": smooth(2, 3)}
    for kind, value in given.items():
        got = G.affine(value, angles, **words, backend="kornia")
        for i in range(2):
            one = tv.wrap(value[i], like=value) if isinstance(value, tv.TVTensor) else value[i]
            alone = {"translate": shifts[i].tolist(), "scale": words["scale"][i], "shear": 0.0}
            assert_like(got[i].as_subclass(Tensor), G.affine(one, float(angles[i]), **alone).as_subclass(Tensor), kind)


def test_values_per_sample_of_boxes() -> None:
    plain, angles = boxes("XYWH", n=6).as_subclass(Tensor).view(2, 3, 4), [20.0, -70.0]
    got = G.rotate_bounding_boxes(plain, "XYWH", (H, W), angles)[0]
    for i, angle in enumerate(angles):
        assert_like(got[i], F.rotate_bounding_boxes(plain[i], tv.BoundingBoxFormat.XYWH, (H, W), angle)[0], str(i))


def test_images_that_become_of_several_sizes() -> None:
    given = smooth(2, 3)
    turned = G.rotate(given, torch.tensor([0.0, 90.0]), expand=True, backend="kornia")
    assert [tuple(one.shape) for one in turned] == [(3, H, W), (3, W, H)]
    assert torch.equal(turned[1], given[1].rot90(1, (1, 2)))
    fields = torch.cat((FIELD * 0, FIELD))
    moved = G.elastic(given, fields)
    assert torch.equal(moved[0], given[0]) and torch.equal(moved[1], G.elastic(given[1], FIELD))


def test_a_turn_onto_a_larger_canvas_is_about_the_middle() -> None:
    with pytest.warns(UserWarning, match="center"):
        got = G.rotate(smooth(3), 33.0, expand=True, center=[1.0, 2.0])
    assert torch.equal(got, G.rotate(smooth(3), 33.0, expand=True))


def test_what_is_written_in_place() -> None:
    patch = torch.rand(3, 4, 5, generator=generator(6))
    for v in (0.5, patch):
        given, kept = smooth(2, 3), smooth(2, 3)
        assert G.erase(given, 1, 2, 4, 5, v, inplace=True) is given
        assert torch.equal(given, G.erase(kept, 1, 2, 4, 5, v)) and not torch.equal(given, kept)
    given, kept = smooth(2, 3), smooth(2, 3)
    assert G.normalize(given, [0.5], [0.5], inplace=True) is given and torch.equal(given, G.normalize(kept, 0.5, 0.5))


def test_a_kernel_of_ones_own() -> None:
    class Heat(tv.TVTensor):
        pass

    heat = torch.rand(4, 5, generator=generator(7)).as_subclass(Heat)
    with pytest.raises(TypeError, match="Heat"):
        G.horizontal_flip(heat)
    registered = G.register_kernel(G.horizontal_flip, Heat)(lambda inpt: tv.wrap(inpt.flip(-1), like=inpt))
    try:
        assert callable(registered) and type(G.horizontal_flip(heat)) is not Tensor
        assert torch.equal(G.horizontal_flip(heat).as_subclass(Tensor), heat.as_subclass(Tensor).flip(-1))
        for bad in (
            lambda: G.register_kernel("horizontal_flip", Heat),
            lambda: G.register_kernel("no_function", Heat),
            lambda: G.register_kernel(F.horizontal_flip, Heat),
            lambda: G.register_kernel(G.vertical_flip, tv.Image),
            lambda: G.register_kernel(G.vertical_flip, Tensor),
        ):
            with pytest.raises(ValueError, match="register_kernel"):
                bad()
    finally:
        G.kinds._registered.clear()


def test_functions_are_found_again() -> None:
    for name in G.__all__:
        assert pickle.loads(pickle.dumps(getattr(G, name))) is getattr(G, name)
        assert getattr(G, name).__doc__, name


REPLAYED = [ga.RandomCrop(15, padding=4), ga.RandomRotation(40), ga.RandomPerspective(0.4, 1.0, "nearest")]
REPLAYED += [ga.RandomRotation(40, expand=True), ga.ElasticTransform(40.0, 1.5), ga.Resize(None, max_size=19)]


@pytest.mark.parametrize("case", range(len(REPLAYED)))
def test_records_replay(case: int) -> None:
    """What `describe` tells is done again by these functions, to images and to what lies beside them."""
    augment, images = ga.Compose([REPLAYED[case]], seed=3, backend="kornia"), smooth(1, 3)
    masks, at = lattice(1, H, W, high=9), boxes("XYXY").as_subclass(Tensor)[None]
    params = augment.sample(images, ids=[5], epoch=0)
    moved = augment.apply(images, params, masks=masks, boxes=at)
    given: list[Any] = [images[0], tv.Mask(masks[0]), tv.BoundingBoxes(at[0], format="XYXY", canvas_size=(H, W))]
    for record in params.describe(0):
        given = [getattr(G, record["call"])(value, **record["kwargs"]) for value in given]
    for got, expected in zip(given, moved, strict=True):
        off = (got.as_subclass(Tensor).float() - expected[0].float()).abs() > 1e-3
        assert got.shape == expected[0].shape and off.float().mean() <= TIES
