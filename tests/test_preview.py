"""Contact sheets: the right pixels in the right places, captions, errors."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="contact sheets take their font from matplotlib")
pytest.importorskip("torchvision", reason="the fine-tuning extra is not installed: torchvision")
pytest.importorskip("sklearn", reason="the fine-tuning extra is not installed: scikit-learn")

from PIL import Image  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import drawing, presets  # noqa: E402
from gpuaug.cli import main  # noqa: E402
from gpuaug.data.annotated import annotated  # noqa: E402
from gpuaug.drawing import GAP, MARGIN, Marks, Tile, colour_of, contact_sheet, font, marked, width_of, wrapped  # noqa: E402
from gpuaug.gallery import MARKED, SECTIONS, parameters, sample_photos, section  # noqa: E402
from gpuaug.preview import annotated_row, caption, draw_tiles, preview, preview_clips, strip, to_image  # noqa: E402


def photo(path: Path, colour=(200, 80, 40)) -> Path:
    image = Image.new("RGB", (320, 240), colour)
    image.paste((255, 255, 255), (0, 0, 160, 240))
    image.save(path)
    return path


def test_to_image_undoes_the_normalisation():
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = ga.IMAGENET_MEAN, ga.IMAGENET_STD
    normal = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for shown in (to_image(pixels), to_image(pixels / 255), to_image(normal, mean, std)):
        assert np.array_equal(np.asarray(shown), pixels.permute(1, 2, 0).numpy())


def test_a_tile_shows_the_draw_that_its_caption_names():
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    image[:, :, :8] = 255
    augment = ga.Compose([ga.RandomHorizontalFlip(0.5), ga.ToDtype(torch.float32, scale=True)], seed=0)
    tiles = draw_tiles(image, augment, range(20), [0.0] * 3, [1.0] * 3)
    words = {tile.caption for tile in tiles}
    assert words == {"flip", "unchanged"}
    for tile in tiles:
        assert tile.image.getpixel((2, 8)) == ((0, 0, 0) if tile.caption == "flip" else (255, 255, 255))


def test_a_tile_is_what_the_pipeline_gives_for_that_id_and_epoch():
    image = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = presets.geometric(seed=3, mean=[0.0] * 3, std=[1.0] * 3)
    (tile,) = draw_tiles(image, augment, [11], [0.0] * 3, [1.0] * 3, epoch=4)
    truth = to_image(augment(image[None], ids=[11], epoch=4)[0])
    assert np.array_equal(np.asarray(tile.image), np.asarray(truth))


def test_captions():
    affine = {"angle": -28.4, "translate": [3.0, -2.0], "scale": 1.034, "shear": [0.0, 0.0]}
    records = [{"op": "F", "call": "horizontal_flip", "kwargs": {}}, {"op": "A", "call": "affine", "kwargs": affine}]
    assert caption(records) == "flip · ↺28° · +3,-2 · ×1.03"
    bright = {"op": "ColorJitter", "call": "adjust_brightness", "kwargs": {"brightness_factor": 1.234}}
    assert caption([bright, {"op": "N", "call": "normalize", "kwargs": {}}]) == "brightness 1.23"
    assert caption([{"op": "RandomRotation", "call": "rotate", "kwargs": {"angle": -10.0}}]) == "↻10°"
    assert caption([]) == "unchanged"


def test_small_images_keep_hard_pixels_and_large_ones_their_shape():
    checks = Image.fromarray((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    wide = Image.new("RGB", (640, 320), (0, 0, 255))
    sheet = contact_sheet([[Tile(checks, "a"), Tile(wide, "b")]], "title", side=160)
    assert sheet.width == 2 * MARGIN + 2 * 160 + 2 * GAP
    pixels = np.asarray(sheet)
    blue = (pixels == (0, 0, 255)).all(-1)
    assert blue.sum() == 160 * 80
    top = np.flatnonzero(blue.any(1))[0] - 40
    left = pixels[top : top + 160, MARGIN : MARGIN + 160, 0]
    assert np.array_equal(left, np.kron(np.asarray(checks)[..., 0], np.ones((5, 5), np.uint8)))


def test_long_words_do_not_run_into_the_next_tile():
    tiles = [Tile(Image.new("RGB", (32, 32)), "w" * 200), Tile(Image.new("RGB", (32, 32)), "short")]
    pixels = np.asarray(contact_sheet([tiles], "t", side=100))
    between = pixels[:, MARGIN + 101 : MARGIN + 100 + 2 * GAP - 1]
    assert (between[60:] == 255).all()


@pytest.mark.parametrize("augment", ["imagenet_train", "geometric:degrees=20", "cifar_train", "none"])
def test_preview_of_files_and_folders(tmp_path, augment):
    (tmp_path / "in").mkdir()
    photo(tmp_path / "in" / "b.jpg"), photo(tmp_path / "in" / "a.png", (0, 0, 200))
    single = photo(tmp_path / "single.webp")
    out = preview([single, tmp_path / "in"], augment, tmp_path / "new" / "sheet.png", draws=3, size=64, side=64)
    with Image.open(out) as sheet:
        assert sheet.width == 2 * MARGIN + 4 * (64 + GAP) and sheet.height > 3 * 64
        assert len(sheet.convert("RGB").getcolors(1 << 20)) > 20


def test_another_seed_draws_otherwise(tmp_path):
    path = photo(tmp_path / "a.jpg")
    sheets = [
        preview([path], "geometric", tmp_path / f"{i}.png", seed=s, size=64).read_bytes()
        for i, s in enumerate((0, 0, 1))
    ]
    assert sheets[0] == sheets[1] != sheets[2]


def test_preview_errors(tmp_path):
    path = photo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="no preset 'fancy'; choose one of"):
        preview([path], "fancy", tmp_path / "s.png")
    with pytest.raises(ValueError, match="sheet.xyz: no image format by this ending"):
        preview([path], "none", tmp_path / "sheet.xyz")
    with pytest.raises(ValueError, match="draws must be at least 1"):
        preview([path], "none", tmp_path / "s.png", draws=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in this folder"):
        preview([tmp_path / "empty"], "none", tmp_path / "s.png")
    (tmp_path / "cut.jpg").write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.jpg: damaged"):
        preview([tmp_path / "cut.jpg"], "none", tmp_path / "s.png")


def test_preview_of_real_photos(data_dir, tmp_path):
    paths = sorted((data_dir / "photos").glob("*.jpg"))[:3]
    out = preview(paths, "imagenet_train", tmp_path / "sheet.png", draws=4)
    with Image.open(out) as sheet:
        spread = np.asarray(sheet.convert("RGB")).std()
    assert spread > 40


# --- words ------------------------------------------------------------------------------------------------------------
TEXTS = {
    "short": "flip",
    "words": "erase 34x29 at 119,11 · erase 27x38 at 11,78 · brightness 1.23 · contrast 0.8",
    "one long word": "w" * 200,
    "lines": "Mosaic\nsize=192, fill=0\nfour about 25,56",
    "other letters": "Größe Ελληνικά русский עברית հայերեն",
    "narrower than a letter": "WWWW",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_caption_wraps_and_nothing_of_it_is_cut(name):
    width = 5 if name.startswith("narrower") else 100
    lines = wrapped(TEXTS[name], width, 11)
    assert "".join(lines).replace(" ", "") == TEXTS[name].replace(" ", "").replace("\n", "")
    assert all(width_of(line, 11) <= width or len(line) == 1 for line in lines)


def test_a_sheet_is_as_high_as_its_longest_caption():
    image = Image.new("RGB", (64, 64))
    heights = [
        contact_sheet([[Tile(image, text), Tile(image, "b")]], "t", side=100).height for text in ("a", "a " * 60)
    ]
    assert heights[1] - heights[0] == drawing.LINE * (len(wrapped("a " * 60, 100, 11)) - 1) > 0


def test_letters_that_the_typeface_lacks_are_told(monkeypatch):
    from matplotlib.font_manager import fontManager

    monkeypatch.setattr(fontManager, "ttflist", [])
    drawing.font_for.cache_clear()
    with pytest.warns(UserWarning, match="no installed font has the letters '汉'"):
        assert width_of("a 汉", 11) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.font_for.cache_clear()
        assert drawing.font_for("дом", 11).path == font(11).path
    drawing.font_for.cache_clear()


def test_another_typeface_stands_in_for_missing_letters(monkeypatch):
    """The mathematical letters of STIX, which DejaVu lacks: both come with matplotlib."""
    drawing.font_for.cache_clear()
    own, other = drawing._letters(str(font(11).path)), drawing.font_for("\ue000", 11)
    assert 0xE000 not in own and 0xE000 in drawing._letters(str(other.path))


# --- marks ------------------------------------------------------------------------------------------------------------
def at(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return picture.getpixel((x, y))


def test_marks_stand_where_they_belong():
    grey = Image.new("RGB", (320, 160), (100, 100, 100))
    nothing = [[np.nan] * 4, [10, 10, 10, 90], [5, 80, 60, 40]]
    masks = np.zeros((160, 320), np.int32)
    masks[100:, 200:] = 3
    marks = Marks(
        np.array([[40.0, 20, 120, 80], *nothing]), [2, 0, 0, 0], masks, np.array([[240.0, 40], [np.nan] * 2, [999, 5]])
    )
    picture = marked(grey, marks, 160)
    assert picture.size == (160, 80)
    assert at(picture, 20, 10) == at(picture, 59, 39) == at(picture, 40, 10) == colour_of(2)
    assert at(picture, 40, 25) == at(picture, 19, 10) == at(picture, 61, 39) == (100, 100, 100)
    veil = tuple(round(0.55 * 100 + 0.45 * c) for c in colour_of(3))
    assert np.abs(np.subtract(at(picture, 130, 65), veil)).max() <= 2
    assert at(picture, 120, 20) == colour_of(0)
    left = np.asarray(picture) == (100, 100, 100)
    assert left[:, :18].all() and left[:45, 70:110].all()


def test_masks_of_objects_have_the_colours_of_their_classes():
    masks = np.zeros((2, 40, 40), np.uint8)
    masks[0, :20], masks[1, 25:] = 1, 1
    picture = marked(Image.new("RGB", (40, 40)), Marks(masks=masks, classes=[1, 4]), 40)
    for y, number in ((5, 1), (35, 4)):
        assert np.abs(np.subtract(at(picture, 9, y), [0.45 * c for c in colour_of(number)])).max() <= 2
    assert at(picture, 9, 22) == (0, 0, 0)


# --- annotated folders ------------------------------------------------------------------------------------------------
def coco(folder: Path, places: str = "images") -> dict:
    """A folder of two photos and a COCO file; returns what this holds."""
    (folder / places).mkdir(parents=True, exist_ok=True)
    found = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "κύτταρο"}, {"id": 9, "name": "cell"}]}
    for i, name in enumerate(("b.png", "a.png")):
        photo(folder / places / name)
        found["images"].append({"id": i + 5, "file_name": name, "width": 320, "height": 240})
    one = {"image_id": 5, "category_id": 9, "bbox": [10, 20, 30, 40], "keypoints": [12, 22, 2, 0, 0, 0]}
    found["annotations"] += [one, one | {"category_id": 7, "segmentation": [[100, 50, 140, 50, 140, 90, 100, 90]]}]
    (folder / "coco.json").write_text(json.dumps(found))
    return found


@pytest.mark.parametrize("places", ["images", "."])
def test_a_coco_file_is_found_and_read(tmp_path, places):
    coco(tmp_path, places)
    first, second = annotated(tmp_path)
    assert (first.path.name, second.path.name) == ("b.png", "a.png")
    assert first.boxes.tolist() == [[10, 20, 40, 60]] * 2 and first.labels == [1, 0]
    assert first.classes == ["κύτταρο", "cell"] and second.boxes.shape == (0, 4)
    assert first.keypoints[:, 0].tolist() == [[12, 22]] * 2 and np.isnan(first.keypoints[:, 1]).all()
    assert not first.masks[0].any() and first.masks[1].sum() == 41 * 41 or first.masks[1, 50:90, 100:140].all()
    assert first.masks.shape == (2, 240, 320) and not first.masks[1, :49].any() and not first.masks[1, :, 142:].any()
    assert len(annotated(tmp_path, 1)) == 1


def test_masks_beside_images_are_found(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    photo(tmp_path / "images" / "a.jpg"), photo(tmp_path / "images" / "b.jpg")
    Image.fromarray(np.full((240, 320), 300, np.uint16)).save(tmp_path / "masks" / "a.png")
    first, second = annotated(tmp_path)
    assert first.masks.dtype == np.int32 and (first.masks == 300).all() and second.masks is None


def test_marks_move_as_the_caption_says(tmp_path):
    coco(tmp_path)
    masks = np.zeros((240, 320), np.int32)
    masks[50:200, 20:140] = 7
    one = replace(annotated(tmp_path)[0], masks=masks)
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], seed=0)
    original, *tiles = annotated_row(one, augment, range(12), 120, [0.0] * 3, [1.0] * 3)
    assert original.image.size == (160, 120) and original.marks.boxes.tolist() == [[5, 10, 20, 30]] * 2
    assert {tile.caption for tile in tiles} == {"flip", "unchanged"}
    for tile in tiles:
        flipped = tile.caption == "flip"
        assert tile.marks.boxes.tolist() == [[140, 10, 155, 30] if flipped else [5, 10, 20, 30]] * 2
        assert tile.marks.keypoints[0, 0].tolist() == [153 if flipped else 6, 11] and tile.marks.classes == [1, 0]
        mask, shown = tile.marks.masks, original.marks.masks
        assert np.array_equal(mask, shown[:, ::-1] if flipped else shown) and (mask[30:95] == 7).sum() > 3600


def test_a_sheet_with_boxes_has_them_and_names_their_classes(tmp_path):
    coco(tmp_path)
    out = preview([tmp_path], "none", tmp_path / "s.png", draws=2, most=1, size=120, side=160)
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    rows = np.nonzero((pixels == colour_of(0)).all(-1))[0]
    assert len(rows) > 13 * 13 + 3 * 100  # the legend's square, three boxes


def test_annotated_errors(tmp_path):
    found = coco(tmp_path)
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(ValueError, match="its image b.png is neither in"):
        annotated(tmp_path)
    del found["annotations"][0]["bbox"]
    photo(tmp_path / "images" / "b.png")
    (tmp_path / "coco.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match="coco.json: not COCO's format .KeyError: 'bbox'"):
        annotated(tmp_path)
    (tmp_path / "coco.json").write_text("{")
    with pytest.raises(ValueError, match="coco.json: not COCO's format .JSONDecodeError"):
        annotated(tmp_path)
    (tmp_path / "coco.json").unlink()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (320, 240)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match="a mask has one channel of numbers, and this is RGB"):
        annotated(tmp_path)
    Image.new("L", (32, 24)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a.png: its mask has the size \(24, 32\), not its own"):
        preview([tmp_path], "none", tmp_path / "s.png")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "c.png")
    with pytest.raises(ValueError, match="no mask has the name of an image, such as a.png"):
        annotated(tmp_path)
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        preview([tmp_path], "none", tmp_path / "s.png", most=0)


@pytest.mark.parametrize("name", ["blood_cells", "nuclei"])
def test_preview_of_real_annotations(data_dir, tmp_path, name):
    if not (data_dir / name).is_dir():
        pytest.skip(f"no folder {data_dir / name}: set GPUAUG_DATA to the folder of the real data")
    out = preview([data_dir / name / "test"], "imagenet_train", tmp_path / "s.png", draws=3, most=2, size=96, side=96)
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    vivid = pixels.max(-1) - pixels.min(-1) > (120 if name == "blood_cells" else 60)
    assert vivid[120:].sum() > 200 and all(part.any() for part in np.array_split(vivid[120:], 4, 1))


# --- clips ------------------------------------------------------------------------------------------------------------
def test_a_strip_shows_the_frames_in_order():
    clip = torch.arange(3, dtype=torch.uint8).mul(90).view(3, 1, 1, 1).expand(3, 3, 4, 6)
    shown = np.asarray(strip(clip))
    assert shown.shape == (4, 3 * 6 + 2 * 2, 3)
    assert [int(shown[0, 8 * t, 0]) for t in range(3)] == [0, 90, 180]


def test_a_sheet_of_clips(tmp_path, capsys):
    for name, colour in {"a/one": (250, 0, 0), "b/two": (0, 0, 250)}.items():
        (tmp_path / "clips" / name).mkdir(parents=True)
        for t in range(8):
            Image.new("RGB", (20, 16), colour).save(tmp_path / "clips" / name / f"{t}.png")
    out = tmp_path / "sheet.png"
    assert (
        main(["preview", "--clips", str(tmp_path / "clips"), "--augment", "geometric", "--size", "14", "-o", str(out)])
        == 0
    )
    sheet = np.asarray(Image.open(out)).astype(int)
    red = ((sheet[..., 0] > 200) & (sheet[..., 1:] < 60).all(-1)).any(1).nonzero()[0]
    blue = ((sheet[..., 2] > 200) & (sheet[..., :2] < 60).all(-1)).any(1).nonzero()[0]
    assert len(red) and len(blue) and red.max() < blue.min()
    assert main(["preview", "--clips", str(tmp_path / "clips"), "--gallery"]) == 2
    assert main(["preview", "--clips", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "clips alone" in told[0] and "no such folder" in told[1]
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        preview_clips(None, "geometric", out, draws=0)


# --- the gallery ------------------------------------------------------------------------------------------------------
def test_each_section_begins_with_the_originals():
    photos = torch.stack(sample_photos())
    for title in ("Mixing", MARKED):
        tiles = section(title, SECTIONS[title], photos)
        assert [tile.caption for tile in tiles[:2]] == ["original"] * 2 and len(tiles) == len(SECTIONS[title]) + 2
        for tile, photo in zip(tiles, photos, strict=False):
            assert np.array_equal(np.asarray(tile.image), photo.permute(1, 2, 0).numpy())
        assert all((tile.marks is not None) == (title == MARKED) for tile in tiles)


def test_the_parameters_of_an_op():
    assert parameters([ga.RandomHorizontalFlip()]) == ""
    assert parameters([ga.RandomHorizontalFlip(1.0)]) == "p=1"
    ops = [ga.ToDtype(torch.float32, scale=True), ga.Resize(128), ga.RandomErasing(1.0, value="random")]
    assert parameters(ops) == "Resize(size=128) · p=1, value='random'"
