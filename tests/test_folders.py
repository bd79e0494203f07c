"""What real folders hold: parts, links, what tools and systems leave."""

from __future__ import annotations

import warnings

import pytest
import torch

pytest.importorskip("PIL", reason="images are judged by Pillow")

from pets import save  # noqa: E402

from gpuaug.data import DataError, folder, open_parts  # noqa: E402
from gpuaug.data.sources import id_of  # noqa: E402


def test_what_tools_and_systems_leave_is_not_data(pets):
    count = len(folder(pets))
    for name in (
        "cat/.hidden.jpg",
        "cat/._0.jpg",
        "cat/.ipynb_checkpoints/0-checkpoint.png",
        "dog/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "dog/inner/__MACOSX/._0.png",
        "__MACOSX/cat/0.jpg",
        ".git/x/0.jpg",
    ):
        save(pets / name)
    (pets / "cat" / "Thumbs.db").touch(), (pets / "dog" / ".DS_Store").touch(), (pets / "dog" / "desktop.ini").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = folder(pets)
    assert len(source) == count and source.classes == ("cat", "dog") and not source.left_out


def test_what_is_left_out_is_counted_and_told(pets):
    for name in ("cat/a.txt", "cat/b.TXT", "dog/c.mp4", "dog/inner/README"):
        (pets / name).touch()
    (pets / "dog" / "gone.jpg").symlink_to(pets / "nowhere.jpg")
    with pytest.warns(UserWarning, match=r"pets: files that are left out, being no images: 2 \.txt"):
        source = folder(pets)
    assert source.left_out == {".txt": 2, ".mp4": 1, "no ending": 1, "broken links": 1} and len(source) == 8


def test_links_are_followed_once_and_never_in_a_circle(pets, tmp_path):
    save(tmp_path / "store" / "emu" / "0.png", 50), save(tmp_path / "store" / "more" / "1.png", 51)
    truth = set(folder(pets).ids.tolist())
    for name, to in {
        "dog/all": pets,
        "dog/above": tmp_path,
        "dog/self": pets / "dog",
        "dog/cats": pets / "cat",
        "cat/loop": pets / "cat" / "loop",
        "emu": tmp_path / "store" / "emu",
        "cat/more": tmp_path / "store" / "more",
        "cat/more2": tmp_path / "store" / "more",
        "cat/link.png": pets / "cat" / "1.png",
    }.items():
        (pets / name).symlink_to(to)
    with pytest.warns(UserWarning, match="1 broken links|1 no ending"):
        source = folder(pets)
    assert source.classes == ("cat", "dog", "emu")
    extra = {id_of("emu/0.png"), id_of("cat/more/1.png"), id_of("cat/link.png")}
    assert set(source.ids.tolist()) == truth | extra


def test_a_hidden_store_behind_links_is_read(tmp_path):
    for c in ("a", "b"):
        save(tmp_path / ".store" / c / "0.png")
        (tmp_path / c).symlink_to(tmp_path / ".store" / c)
    assert folder(tmp_path).classes == ("a", "b")


@pytest.mark.parametrize(
    "names",
    [("Train", "Test"), ("TRAINING", "Testing"), ("train", "eval"), ("Training", "dev"), ("trn", "VALIDATION", "tst")],
)
def test_parts_by_any_usual_name(tmp_path, names):
    for k, part in enumerate(names):
        for c in ("a", "b"):
            for i in range(k + 1):
                save(tmp_path / part / c / f"{i}.png")
    save(tmp_path / "extra" / "a" / "0.png")
    with pytest.warns(UserWarning, match="extra beside .*: not used"):
        parts = open_parts(tmp_path, 8, 0.0)
    assert parts.train.classes == ("a", "b") and len(parts.train) == 2 and len(parts.test) == 2 * len(names)
    assert (parts.val is not None) == (len(names) == 3)
    assert torch.equal(parts.train.ids, folder(tmp_path / names[0]).ids)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("masks/0.png", r"masks/ beside images/ looks like images with masks \(segmentation\), not like class folders"),
        ("Annotations/0.xml", r"Annotations/ beside images/ looks like images with boxes \(detection\)"),
        ("coco.json", r"coco.json beside images/ looks like images with boxes \(detection\)"),
    ],
)
def test_images_with_boxes_or_masks_are_no_classes(tmp_path, beside, words):
    save(tmp_path / "images" / "0.png")
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    save(tmp_path / beside) if beside.endswith("png") else (tmp_path / beside).touch()
    with pytest.raises(DataError, match=words):
        open_parts(tmp_path, None, 0.0)
    save(tmp_path / "cat" / "0.png"), save(tmp_path / "masks" / "0.png"), save(tmp_path / "Annotations" / "0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the .xml
        assert "cat" in folder(tmp_path).classes, "these are classes by such names"


def test_parts_are_not_classes(tmp_path):
    for part in ("Train", "Test"):
        save(tmp_path / part / "a" / "0.png"), save(tmp_path / part / "b" / "0.png")
    with pytest.raises(DataError, match=r"Test, Train look like parts of a data set, not like classes; give one"):
        folder(tmp_path)
    save(tmp_path / "testing" / "a" / "0.png")
    with pytest.raises(DataError, match="Test and testing are both the test part; rename or remove one"):
        open_parts(tmp_path, 8, 0.0)
    for name in ("x/valid", "x/test"):
        save(tmp_path / name / "a" / "0.png")
    with pytest.raises(DataError, match="look like parts of a data set"):
        open_parts(tmp_path / "x", 8, 0.0)


def test_unlabelled_folders_and_their_errors(tmp_path):
    with pytest.raises(DataError, match="no images in this folder, nor below it"):
        folder(tmp_path, labelled=False)
    save(tmp_path / "a.png"), save(tmp_path / "x" / "y" / "b.png")
    source = folder(tmp_path, labelled=False)
    assert source.ids.tolist() == [id_of("a.png"), id_of("x/y/b.png")]
    with pytest.raises(ValueError, match=r"images of one size are wanted: decoded\(size=224\)"):
        source.decoded()
    assert source.decoded(size=8).images.shape == (2, 3, 8, 8)
