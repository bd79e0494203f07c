"""What is handed to a pipeline, and how it comes back: structures, classes, identities, judged by torchvision's v2."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.forms import MODES
from gpuaug.samples import Batch, Leaf, give_back, read

H, W = 6, 9
Pair = namedtuple("Pair", "image target")


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return pixels(*shape, seed=seed).numpy().copy()


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    if mode == "F":
        return Image.fromarray(array(H, W, seed=seed).astype(np.float32) / 255)
    c = MODES[mode]
    return Image.fromarray(array(H, W, c, seed=seed) if c > 1 else array(H, W, seed=seed), mode)


def boxes(format: str = "XYWH", n: int = 2) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(torch.ones(n, 4), format=format, canvas_size=(H, W), clamping_mode="hard")


def points() -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(torch.ones(3, 2), canvas_size=(H, W))


def mask(n: int = 2) -> tv_tensors.Mask:
    return tv_tensors.Mask(pixels(n, H, W))


def target() -> dict[str, Any]:
    return {"boxes": boxes(), "masks": mask(), "points": points(), "labels": torch.tensor([1, 2]), "id": 7, "name": "x"}


def through(batch: Batch, transforms: tuple = ()) -> Any:
    """What came in, with each leaf given back as it was read."""
    return batch.rebuild([give_back(leaf.kind, leaf.like, leaf.value, transforms) for leaf in batch.leaves])


def kinds(batch: Batch) -> list[tuple[str, int | None]]:
    return [(leaf.kind, leaf.sample) for leaf in batch.leaves]


def assert_alike(found: Any, expected: Any, where: str = "") -> None:
    """Equal values in equal classes of containers, tensors and pictures."""
    assert type(found) is type(expected), f"{where}: {type(found)} for {type(expected)}"
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_alike(*pair, f"{where}[{i}]")
    elif isinstance(expected, Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected), where
        for trait in ("format", "canvas_size", "clamping_mode"):
            assert getattr(found, trait, None) == getattr(expected, trait, None), where
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and np.array_equal(found, expected), where
    elif isinstance(expected, Image.Image):
        assert (found.mode, found.size, found.tobytes()) == (expected.mode, expected.size, expected.tobytes()), where
    else:
        assert found == expected, where


def refused(call, *mentions: str, kind: type | tuple = (TypeError, ValueError)) -> None:
    with pytest.raises(kind) as caught:
        call()
    told = str(caught.value)
    assert all(mention in told for mention in mentions), f"{told!r} lacks one of {mentions}"
    assert "\n" not in told and len(told) < 300


# --- one sample, or one batch, as torchvision takes it ----------------------------------------------------------------
label = torch.tensor(3)
SAMPLES = {
    "tensor": (pixels(3, H, W),),
    "batch": (pixels(2, 3, H, W),),
    "clips": (pixels(2, 4, 3, H, W),),
    "Image": (tv_tensors.Image(pixels(3, H, W)),),
    "Image, a batch": (tv_tensors.Image(pixels(2, 3, H, W)),),
    "Video": (tv_tensors.Video(pixels(4, 3, H, W)),),
    "Pillow": (picture(),),
    "Pillow and label": (picture(), 3),
    "a pair in a tuple": ((pixels(3, H, W), label),),
    "a pair in a list": ([pixels(3, H, W), 3],),
    "a tuple of one": ((pixels(3, H, W),),),
    "two plain tensors": (pixels(3, H, W), pixels(3, H, W, seed=1)),
    "plain beside Pillow": (pixels(3, H, W), picture(), "word", None),
    "plain beside Image": ({"x": pixels(3, H, W), "y": tv_tensors.Image(pixels(3, H, W, seed=1))},),
    "detection": (tv_tensors.Image(pixels(3, H, W)), target()),
    "nested": ({"a": [{"image": picture()}, (boxes(), {"deep": mask()})], "b": OrderedDict(z=1, a=points())},),
    "namedtuple": (Pair(picture(), target()),),
    "defaultdict": (defaultdict(list, image=picture(), target=target()),),
    "several images": ({"left": picture(), "right": picture(seed=1), "label": 3, "id": 3},),
    "before and after": (tv_tensors.Image(pixels(3, H, W)), tv_tensors.Image(pixels(1, H, W)), 3),
    "a batch and labels": (pixels(2, 3, H, W), torch.arange(2)),
    "a batch in a list, as collated": ([pixels(2, 3, H, W), torch.arange(2)],),
    "a batch in a dict": ({"image": pixels(2, 3, H, W), "label": torch.arange(2), "names": ["a", "b"]},),
    "a batch and masks": (tv_tensors.Image(pixels(2, 3, H, W)), tv_tensors.Mask(pixels(2, H, W))),
    "a batch and targets": (tv_tensors.Image(pixels(2, 3, H, W)), [target(), target()]),
    "empty containers": (picture(), [], {}, ()),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_comes_back_is_what_torchvision_gives(name: str) -> None:
    inputs = SAMPLES[name]
    expected = v2.Compose([v2.Identity()])(*inputs)
    assert_alike(through(read(inputs)), expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_torchvision_transforms_is_a_leaf_and_the_rest_is_the_very_object(name: str) -> None:
    inputs = SAMPLES[name]
    whole = inputs if len(inputs) > 1 else inputs[0]
    flat = torch.utils._pytree.tree_leaves(whole)
    moved = [x for x, is_ in zip(flat, v2.RandomHorizontalFlip()._needs_transform_list(flat), strict=True) if is_]
    batch = read(inputs)
    leaves = [leaf for leaf in batch.leaves if leaf.kind != "labels"]
    assert len(leaves) == len(moved) and all(leaf.like is x for leaf, x in zip(leaves, moved, strict=True))
    filled = torch.utils._pytree.tree_leaves(batch.rebuild([leaf.like for leaf in batch.leaves]))
    assert all(a is b for a, b in zip(filled, flat, strict=True))


def test_leaves_say_what_they_are_and_whose() -> None:
    one = read(SAMPLES["detection"])
    names = ["image", "boxes", "mask", "keypoints", "labels"]
    assert kinds(one) == [(name, 0) for name in names] and one.single and not one.clip and one.firsts == (0,)
    assert all(type(leaf.value) is Tensor for leaf in one.leaves)
    assert one.images is one.leaves[0].value and one.images.data_ptr() == SAMPLES["detection"][0].data_ptr()
    many = read(SAMPLES["a batch and targets"])
    assert kinds(many) == [("image", None), *((name, i) for i in (0, 1) for name in names[1:])] and not many.single
    assert kinds(read(SAMPLES["a batch and masks"])) == [("image", None), ("mask", None)]
    clip = read((tv_tensors.Video(pixels(4, 3, H, W)),))
    assert clip.single and clip.clip and not read(SAMPLES["clips"]).single and read(SAMPLES["clips"]).clip
    assert kinds(read(SAMPLES["several images"])) == [("image", 0), ("image", 0), ("labels", 0)]
    assert kinds(read(SAMPLES["plain beside Pillow"])) == [("image", 0)]


def test_labels_stand_where_torchvisions_mixup_looks() -> None:
    x, y = pixels(2, 3, H, W), torch.arange(2)
    for inputs in ((x, y), ([x, y],), ({"image": x, "Label": y},), ({"my_label": 1, "labels": y, "x": x},)):
        assert [leaf.value for leaf in read(inputs).leaves if leaf.kind == "labels"] == [y]
    assert [leaf.value for leaf in read((x, [1, 2])).leaves[1:]] == [[1, 2]]
    assert [leaf.sample for leaf in read(([(x[0], 1), (x[1], 2)],)).leaves if leaf.kind == "labels"] == [0, 1]


# --- lists ------------------------------------------------------------------------------------------------------------
def test_a_list_of_images_is_a_batch() -> None:
    images = [pixels(3, H, W), picture(), array(4, 5, 3), tv_tensors.Image(pixels(3, 2, 2))]
    batch = read((images,))
    assert kinds(batch) == [("image", None)] and not batch.single
    assert [tuple(x.shape) for x in batch.images] == [(3, H, W), (3, H, W), (3, 4, 5), (3, 2, 2)]
    assert_alike(through(batch), images)
    plain = [pixels(3, H, W), pixels(3, H, W, seed=1)]
    stacked = torch.stack(plain)
    leaf = read((plain,)).leaves[0]
    assert give_back("image", leaf.like, stacked) is stacked
    pictures = [picture(), picture(seed=1)]
    leaf = read((pictures,)).leaves[0]
    assert_alike(give_back("image", leaf.like, torch.stack(leaf.value)), pictures)
    assert torch.equal(
        give_back("image", leaf.like, torch.stack(leaf.value), [ga.PILToTensor()]), torch.stack(leaf.value)
    )


def test_a_list_of_images_makes_its_structure_a_batch() -> None:
    for images in ([pixels(3, H, W), pixels(3, 4, 5)], [picture(), picture(seed=1)]):
        targets = [target(), {"boxes": boxes(n=0), "labels": torch.zeros(0)}]
        batch = read((images, targets))
        assert [leaf.sample for leaf in batch.leaves] == [None, 0, 0, 0, 0, 1, 1]
        assert_alike(through(batch), (images, targets))
        for collated in ((tuple(images), tuple(targets)), [images, targets], [tuple(images), tuple(targets)]):
            batch = read(collated) if type(collated) is tuple else read((collated,))
            assert [leaf.sample for leaf in batch.leaves] == [None, 0, 0, 0, 0, 1, 1], type(collated)
            assert_alike(through(batch), collated)
    table = {"image": [picture(), picture(seed=1)], "label": [3, 3], "mask": [mask(), mask(1)]}
    batch = read((table,))
    assert kinds(batch) == [("image", None), ("labels", None), ("mask", None)]
    assert [tuple(m.shape) for m in batch.leaves[2].value] == [(2, H, W), (1, H, W)]
    assert_alike(through(batch), table)
    stereo = read(({"left": table["image"], "right": table["image"][::-1]},))
    assert kinds(stereo) == [("image", None)] * 2 and len(stereo.images) == 2


def test_a_list_of_samples_is_a_batch() -> None:
    samples = [
        (picture(), 3),
        (tv_tensors.Image(pixels(3, 4, 5)), target()),
        {"image": pixels(3, 2, 3), "none": None},
        [picture(seed=2), picture(seed=3)],
        [pixels(3, H, W), pixels(3, H, W)],
        Pair(array(7, 8, 3), "word"),
        {"image": array(7, 8)},
    ]
    batch = read((samples,))
    assert not batch.single and [tuple(x.shape[1:]) for x in batch.images[:4]] == [(H, W), (4, 5), (2, 3), (H, W)]
    assert [batch.leaves[i].sample for i in batch.firsts] == list(range(7))
    assert all(batch.leaves[i].value is x for i, x in zip(batch.firsts, batch.images, strict=True))
    assert sum(leaf.kind == "image" for leaf in batch.leaves) == 9
    assert_alike(through(batch), samples)
    clips = read(([(tv_tensors.Video(pixels(4, 3, H, W)), 1)] * 2,))
    assert clips.clip and clips.images[0].shape == (4, 3, H, W)
    clips = read(([tv_tensors.Video(pixels(4, 3, H, W))] * 2,))
    assert clips.clip and not clips.single and kinds(clips) == [("image", None)]


# --- by keyword -------------------------------------------------------------------------------------------------------
def test_by_keyword_comes_back_in_order() -> None:
    x, m, b, k = pixels(2, 3, H, W), pixels(2, H, W), torch.ones(2, 5, 4), torch.ones(2, 5, 2)
    given = dict(keypoints=k, boxes=b, masks=m, labels=[1, 2])
    batch = read((x,), **given)
    assert kinds(batch) == [(kind, None) for kind in ("image", "labels", "mask", "boxes", "keypoints")]
    assert all(a is b for a, b in zip(through(batch), (x, given["labels"], m, b, k), strict=True))
    assert through(read((x, 3), masks=m))[:2] == (x, 3) and len(through(read((x, 3), masks=m))) == 3
    assert [type(leaf.value) for leaf in read(([x[0], x[1]],), masks=list(m), boxes=[b[0], b[1, :0]]).leaves] == [
        list
    ] * 3
    one = read((picture(),), masks=m[0], boxes=b[0], keypoints=k)
    assert kinds(one) == [(kind, 0) for kind in ("image", "mask", "boxes", "keypoints")]
    clip = read((tv_tensors.Video(pixels(4, 3, H, W)),), masks=pixels(4, 2, H, W), boxes=torch.ones(4, 1, 4))
    assert clip.leaves[1].value.shape == (4, 2, H, W)
    rotated = tv_tensors.BoundingBoxes(torch.ones(1, 5), format="CXCYWHR", canvas_size=(H, W))
    assert through(read((picture(),), boxes=rotated))[1].format == rotated.format


@pytest.mark.parametrize("mode", ["1", "L", "P", "I", "I;16"])
def test_masks_by_keyword_as_pictures_and_arrays(mode: str) -> None:
    values = array(H, W)
    if mode == "P":
        given = Image.fromarray(values).convert("P")
        given.putpalette(list(range(255, -1, -1)) * 3)
    else:
        dtypes = {"1": bool, "L": np.uint8, "I": np.int32, "I;16": np.uint16}
        given = Image.fromarray((values > 99 if mode == "1" else values * 200).astype(dtypes[mode]))
    assert given.mode == mode
    batch = read((picture(),), masks=given)
    assert np.array_equal(batch.leaves[1].value.numpy(), np.asarray(given))
    back = through(batch)[1]
    assert_alike(back, given) if mode != "P" else None
    assert back.mode == mode and back.getpalette() == given.getpalette() and np.array_equal(back, given)
    data = np.asarray(given).astype(np.int64)
    assert_alike(through(read((picture(),), masks=data, boxes=np.ones((2, 4), np.float32)))[1], data)


# --- forms ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_read_and_given_back_exactly(mode: str) -> None:
    given = picture(mode)
    batch = read((given,))
    assert batch.images.shape == (MODES[mode], H, W) and torch.equal(batch.images, v2.functional.pil_to_tensor(given))
    assert_alike(through(batch), given)
    for laid in (batch.images.contiguous(), batch.images.clone(), batch.images.flip(2).flip(2)):
        assert_alike(give_back("image", given, laid), given)
    assert_alike(through(read((given.rotate(90, expand=True),))), given.rotate(90, expand=True))


def test_large_pictures_are_read_exactly() -> None:
    for size in ((500, 300), (1, 70_000)):
        given = Image.fromarray(array(*size, 3))
        assert torch.equal(read((given,)).images, v2.functional.pil_to_tensor(given))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_arrays_are_read_and_given_back_exactly(dtype: type) -> None:
    for shape in ((H, W), (H, W, 1), (H, W, 3), (2, H, W, 3), (2, 4, H, W, 3)):
        given = array(*shape).astype(dtype)
        batch = read((given,))
        expected = given[..., None] if len(shape) == 2 else given
        assert np.array_equal(batch.images.numpy(), np.moveaxis(expected, -1, -3))
        assert np.shares_memory(batch.images.numpy(), given)
        assert_alike(through(batch), given)
        assert_alike(give_back("image", given, batch.images.contiguous()), given)
        fixed = given.copy()
        fixed.flags.writeable = False
        assert np.shares_memory(read((fixed,)).images.numpy(), fixed)
        turned = given[::-1]
        assert_alike(through(read((turned,))), turned)
    if dtype is np.float32:
        refused(lambda: read((given.astype(">f4"),)), ">f4", "astype(np.float32)")


def test_reading_imports_nothing_and_says_nothing() -> None:
    code = """
import sys, warnings
import torch
from gpuaug.samples import read
read(({"image": torch.zeros(3, 4, 5), "label": 1},))
assert not {"PIL", "torchvision"} & set(sys.modules)
warnings.simplefilter("error")
import numpy as np
from PIL import Image
x = np.zeros((4, 5, 3), np.uint8)
read((Image.fromarray(x),))
x.flags.writeable = False
read((x,))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_results_of_other_channels_and_dtypes() -> None:
    grey, colour = pixels(1, H, W), pixels(3, H, W)
    assert give_back("image", picture(), grey).mode == "L" and give_back("image", picture("L"), colour).mode == "RGB"
    assert give_back("image", picture("LA"), grey).mode == "L" and give_back("image", picture("F"), grey).mode == "L"
    assert give_back("image", array(H, W), colour).shape == (H, W, 3)
    assert give_back("image", array(H, W, 3), grey.float()).dtype == np.float32
    for like, value in ((picture(), colour.float()), (picture("F"), colour.float()), (array(H, W), grey.bfloat16())):
        assert give_back("image", like, value) is value
    refused(lambda: give_back("image", picture(), pixels(5, H, W)), "1 to 4 channels", "5", "ToImage")
    box = give_back("boxes", boxes(), torch.zeros(1, 4), canvas=(3, 4))
    assert (box.canvas_size, box.format, box.clamping_mode) == ((3, 4), boxes().format, "hard")
    both = give_back("boxes", [boxes(), boxes("XYXY")], [torch.zeros(1, 4)] * 2, canvas=[(3, 4), (5, 6)])
    assert [b.canvas_size for b in both] == [(3, 4), (5, 6)] and both[1].format == boxes("XYXY").format
    assert give_back("keypoints", points(), torch.zeros(1, 2), canvas=(3, 4)).canvas_size == (3, 4)
    assert_alike(give_back("mask", [mask(), pixels(H, W)], [mask(), mask()]), [mask(), mask()])


# --- what ops make of forms -------------------------------------------------------------------------------------------
CONVERSIONS = [
    ["ToImage"],
    ["PILToTensor"],
    ["ToPILImage"],
    ["ToPureTensor"],
    ["ToImage", "ToPureTensor"],
    ["ToPILImage", "PILToTensor"],
    ["PILToTensor", "ToImage"],
    ["ToPureTensor", "ToPILImage"],
    ["ToImage", "ToPILImage", "ToImage"],
    ["ToPILImage", "ToImage", "ToPureTensor"],
]
ALONE = {
    "tensor": pixels(3, H, W),
    "Image": tv_tensors.Image(pixels(3, H, W)),
    "Video": tv_tensors.Video(pixels(4, 3, H, W)),
    "Pillow": picture(),
    "grey Pillow": picture("L"),
    "array": array(H, W, 3),
}


def converted(names: list[str], library: Any) -> list:
    return [getattr(library, name)() for name in names]


@pytest.mark.parametrize("names", CONVERSIONS, ids="-".join)
@pytest.mark.parametrize("given", ALONE)
def test_conversions_make_what_torchvision_makes(given: str, names: list[str]) -> None:
    image = ALONE[given]
    sample = {"image": image, "boxes": boxes(), "mask": mask(), "points": points(), "label": 3}
    for inputs in (image, sample):
        if names == ["ToPureTensor", "ToPILImage"] and (given == "Video" or (given == "array" and inputs is sample)):
            continue  # torchvision fails on the clip, and makes a picture of the boxes
        expected = v2.Compose(converted(names, v2))(inputs)
        nested = ga.Compose([ga.RandomApply([ga.RandomOrder(converted(names[:1], ga))]), *converted(names[1:], ga)])
        for transforms in (converted(names, ga), [ga.Compose(converted(names, ga))], [ga.Identity(), nested]):
            assert_alike(through(read((inputs,)), transforms), expected)


def test_floats_and_dtypes() -> None:
    """torchvision's ToDtype leaves Pillow images and arrays as they are, and ToTensor tensors."""
    floats = [ga.ToDtype(torch.float32, scale=True)]
    x = pixels(3, H, W).float() / 255
    for library_ops, ops in ((["ToImage"], [ga.ToImage()]), (["PILToTensor"], [ga.PILToTensor()])):
        expected = v2.Compose([*converted(library_ops, v2), v2.ToDtype(torch.float32, scale=True)])(picture())
        assert type(give_back("image", picture(), x, [*ops, *floats])) is type(expected)
    assert give_back("image", picture(), x, floats) is x
    assert type(give_back("image", array(H, W, 3), x, floats)) is np.ndarray
    with pytest.warns(UserWarning, match="deprecated"):
        judge = v2.ToTensor()
    for given in (picture(), array(H, W, 3)):
        augment = ga.Compose([ga.ToTensor()], seed=0, backend="kornia")
        values = augment(read((given,)).images)
        found = give_back("image", given, values, augment.transforms)
        assert type(found) is type(judge(given))
        torch.testing.assert_close(found, judge(given))


@pytest.mark.parametrize("mode", [None, "RGB", "YCbCr", "HSV", "L", "LA", "RGBA", "CMYK", "RGBX", "F"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pictures_of_a_mode(mode: str | None, dtype: torch.dtype) -> None:
    for channels in (1, 2, 3, 4, 5):
        x = pixels(channels, H, W)
        x = x if dtype == torch.uint8 else x.float().div(255)
        augment = ga.Compose([ga.ToPILImage(mode)], seed=0, backend="kornia")
        try:
            expected = v2.ToPILImage(mode)(x)
        except (ValueError, TypeError):
            refused(lambda c=augment, x=x: c(x), "ToPILImage", mode or "5")
            continue
        assert_alike(augment(x), expected)
        if mode is None:
            assert_alike(augment(x[None]), [expected])


def test_floats_that_become_pictures_replay() -> None:
    x = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0))
    augment = ga.Compose([ga.ToPILImage(), ga.RandomInvert(1.0), ga.ToDtype(torch.float32, scale=True)], seed=0)
    params = augment.sample(x)
    replayed = x[0]
    for call in params.describe(0):
        replayed = getattr(v2.functional, call["call"])(replayed, **call["kwargs"])
    torch.testing.assert_close(augment.apply(x, params)[0], replayed)
    assert [call["call"] for call in params.describe(0)][:2] == ["to_pil_image", "pil_to_tensor"]


# --- refusals ---------------------------------------------------------------------------------------------------------
x, images = pixels(2, 3, H, W), [pixels(3, H, W), pixels(3, 4, 5)]
REFUSED = {
    "nothing": (((),), {}, ["images"]),
    "None": (((None,),), {}, ["images", "None"]),
    "a number": (((3,),), {}, ["images", "int"]),
    "an empty list": ((([],),), {}, ["list", "no images"]),
    "a dict of numbers": ((({"a": 1},),), {}, ["dict", "no images"]),
    "a sample without": ((([(picture(), 1), (1, 2)],),), {}, ["sample 1", "no images"]),
    "labels alone": (((torch.arange(2),),), {}, ["images", "(2,)"]),
    "a sample that is a batch": ((([(x, 1), (x, 2)],),), {}, ["sample 0", "(2, 3, 6, 9)"]),
    "clips and images": ((([(tv_tensors.Video(x), 1), (picture(), 2)],),), {}, ["clips"]),
    "lists of two lengths": ((({"a": [picture()] * 2, "b": [picture()] * 3},),), {}, ["2", "3"]),
    "one image in a batch": ((({"a": tv_tensors.Image(x), "b": picture()},),), {}, ["(3, 6, 9)", "batch of 2"]),
    "a batch in a sample": ((({"a": picture(), "b": tv_tensors.Image(x)},),), {}, ["(2, 3, 6, 9)", "one sample"]),
    "boxes of one in a batch": (((x, boxes()),), {}, ["BoundingBoxes", "batch of 2", "(2, 4)", "draw"]),
    "masks of three": (((x, mask(3)),), {}, ["Mask", "(3, 6, 9)", "batch of 2"]),
    "a closed container": (((UserDict(image=x),),), {}, ["UserDict", "dict(sample)"]),
    "a closed container inside": (((picture(), UserDict(boxes=boxes())),), {}, ["UserDict", "dict(sample)"]),
    "CMYK": (((Image.new("CMYK", (4, 4)),),), {}, ["CMYK", 'convert("RGB")']),
    "palette": (((Image.new("P", (4, 4)),),), {}, ["mode P", 'convert("RGB")', "masks="]),
    "bits": (((Image.new("1", (4, 4)),),), {}, ["mode 1", 'convert("L")', "masks="]),
    "I;16": (((Image.new("I;16", (4, 4)),),), {}, ["I;16", "65535"]),
    "channels first": (((array(3, 24, 24),),), {}, ["(3, 24, 24)", "[H, W, C]", "torch.from_numpy"]),
    "channels first, batch": (((array(2, 3, 24, 24),),), {}, ["(2, 3, 24, 24)", "torch.from_numpy"]),
    "many channels": (((array(24, 24, 17),),), {}, ["(24, 24, 17)", "torch.from_numpy"]),
    "uint16": (((array(H, W, 3).astype(np.uint16),),), {}, ["uint16", "65535"]),
    "int64": (((array(H, W, 3).astype(np.int64),),), {}, ["int64", "astype(np.uint8)"]),
    "float64": (((array(H, W, 3) / 255,),), {}, ["float64", "astype(np.float32)"]),
    "words": (((np.array([["a"] * 4] * 4),),), {}, ["<U1", "arrays"]),
    "mask of one": (((x,),), {"masks": pixels(H, W)}, ["masks", "[B, H, W]", "(6, 9)"]),
    "masks of three by keyword": (((x,),), {"masks": pixels(3, H, W)}, ["masks", "2 images", "(3, 6, 9)"]),
    "a list of one": (((images,),), {"masks": [pixels(H, W)]}, ["masks", "2 images", "list of 1"]),
    "a list beside one": (((picture(),),), {"boxes": [[0, 0, 1, 1]]}, ["boxes", "[N, 4]", "list"]),
    "words as boxes": (((x,),), {"boxes": "xyxy"}, ["boxes", "'xyxy'"]),
    "boxes of five": (((x,),), {"boxes": torch.ones(2, 3, 5)}, ["boxes", "[B, N, 4]", "(2, 3, 5)"]),
    "whole boxes": (((x,),), {"boxes": torch.ones(2, 3, 4).long()}, ["boxes", "int64", ".float()"]),
    "points of three": (((x,),), {"keypoints": torch.ones(2, 4, 3)}, ["keypoints", "(2, 4, 3)"]),
    "a mask as boxes": (((x,),), {"boxes": tv_tensors.Mask(pixels(2, H, W))}, ["boxes", "Mask"]),
    "a picture as boxes": (((picture(),),), {"boxes": picture()}, ["boxes", "Image"]),
    "a colour mask": (((picture(),),), {"masks": picture()}, ["masks", "RGB"]),
    "masks as labels": (((x,),), {"labels": pixels(2, H, W)}, ["labels", "masks, boxes and keypoints", "keywords"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    (inputs,), keywords, mentions = REFUSED[name]
    refused(lambda: read(inputs, **keywords), *mentions)


def test_conversions_by_chance_and_miscounts_are_refused() -> None:
    refused(
        lambda: give_back("image", picture(), x[0], [ga.RandomChoice([ga.ToImage(), ga.Identity()])]), "RandomChoice"
    )
    same = [ga.RandomChoice([ga.ToImage(), ga.Compose([ga.PILToTensor(), ga.ToImage()])])]
    assert type(give_back("image", picture(), x[0], same)) is tv_tensors.Image
    refused(lambda: read((x, 1)).rebuild([x]), "1 values", "2 leaves")
    refused(lambda: give_back("image", [picture()], [x[0], x[1]]), "2 results")


def test_a_leaf_is_what_it_says() -> None:
    assert read((x,)).leaves == [Leaf("image", x, None, x)]
