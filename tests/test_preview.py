"""Contact sheets: the right pixels in the right places, captions, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="contact sheets take their font from matplotlib")
pytest.importorskip("torchvision", reason="the fine-tuning extra is not installed: torchvision")

from PIL import Image  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug import presets  # noqa: E402
from gpuaug.preview import GAP, MARGIN, Tile, caption, contact_sheet, draw_tiles, preview, to_image  # noqa: E402


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
