"""Clips: files judged by PyAV's decoding from the beginning, folders of frames by Pillow, draws by counting."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga
from gpuaug.data import DataError, Loader, by_video, clip_parts, clips
from gpuaug.data import video as videos
from gpuaug.data.clips import Sampling, natural, places

pytest.importorskip("numba", reason="clips are augmented by the CPU engine")
pytest.importorskip("sklearn", reason="parts are split by scikit-learn")

H, W, STEP = 48, 64, 6  # of a frame; how much brighter the green of each is than of the one before
TO_FLOAT = ga.ToDtype(torch.float32, scale=True)
CODECS = {"mp4": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9", "mkv": "libx264", "mov": "mjpeg", "gif": "gif"}


def picture(k: int, h: int = H, w: int = W) -> np.ndarray:
    """Frame `k`: its number in green."""
    y, x = np.mgrid[:h, :w]
    return np.stack([(2 * x) % 256, np.full((h, w), STEP * k), (3 * y) % 256], -1).astype(np.uint8)


def numbers(clip: torch.Tensor) -> list[int]:
    """Which frames a clip [T, 3, H, W] shows."""
    return (clip[:, 1].float().mean((1, 2)) / STEP).round().int().tolist()


def video(path: Path, n: int = 40, codec: str | None = None, gop: int = 8) -> Path:
    av = pytest.importorskip("av", reason="video files are decoded by PyAV")
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = codec or CODECS[path.suffix[1:]]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.codec_context.gop_size = W, H, gop
        stream.options = {"sc_threshold": "0"} if codec == "libx264" else {}  # no key frames but those asked for
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for k in range(n):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(k), format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def framed(path: Path, n: int, size: tuple[int, int] = (H, W), ending: str = "png") -> Path:
    path.mkdir(parents=True)
    for k in range(n):
        Image.fromarray(picture(k, *size)).save(path / f"frame{k}.{ending}")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four clips of frames in two classes, of 30, 12, 30 and 3 frames."""
    for name, n in {"a/one": 30, "a/two": 12, "b/one": 30, "b/short": 3}.items():
        framed(tmp_path / "set" / name, n)
    return tmp_path / "set"


def shown(loader: Loader) -> dict[int, list[int]]:
    return {
        one: numbers(clip)
        for batch, _, ids in loader
        for clip, one in zip(batch.mul(255) if batch.is_floating_point() else batch, ids.tolist(), strict=True)
    }


# --- what there is ----------------------------------------------------------------------------------------------------
def test_a_clip_is_a_file_or_a_folder_of_frames(root: Path) -> None:
    video(root / "a" / "x.mp4", 5)
    (root / "b" / "notes.txt").write_text("no clip")
    with pytest.warns(UserWarning, match="being no clips: 1 .txt"):
        source = clips(root)
    assert source.classes == ("a", "b") and source.labels.tolist() == [0, 0, 0, 1, 1]
    assert [str(item) for item in source.items] == [
        str(root / name) for name in ("a/one", "a/two", "a/x.mp4", "b/one", "b/short")
    ]
    assert source.items[0].frames[9:11] == ("frame9.png", "frame10.png")
    moved = root.rename(root.parent / "elsewhere")
    (moved / "b" / "notes.txt").unlink()
    assert torch.equal(clips(moved).ids, source.ids)
    assert clips(moved / "a", labelled=False).labels is None


def test_names_are_counted() -> None:
    names = ["10.jpg", "a2b10.jpg", "9.jpg", "a2b9.jpg", "b.jpg", "010.jpg"]
    assert sorted(names, key=natural) == ["9.jpg", "10.jpg", "010.jpg", "a2b9.jpg", "a2b10.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "wrong, told",
    [
        (lambda root: Image.new("RGB", (8, 8)).save(root / "a" / "lone.png"), r"a: 1 images right in this .*lone\.png"),
        (lambda root: (root / "c").mkdir(), "no clips .*in the class folder c; add some or remove it"),
    ],
)
def test_folders_that_cannot_be(root: Path, wrong, told: str) -> None:
    wrong(root)
    with pytest.raises(DataError, match=told):
        clips(root)


def test_arguments_that_cannot_be(root: Path) -> None:
    with pytest.raises(ValueError, match=r"clips: .*stride='all'"):
        clips(root, stride="all")
    with pytest.raises(ValueError, match="frames=0"):
        clips(root, frames=0)
    with pytest.raises(ValueError, match='clips_per_video=2: .*1 with stride="fit"'):
        clips(root, stride="fit", clips_per_video=2)
    with pytest.raises(DataError, match="no such folder"):
        clips(root / "none")
    source = clips(root)
    for name, value in {"mode": "processes", "decode": "nvjpeg", "cache": root, "resident": True}.items():
        with pytest.raises(ValueError, match=f"^{name} is for images"):
            Loader(source, 2, **{name: value})
    with pytest.raises(ValueError, match="by a Loader"):
        source.decoded(size=8)


def test_without_pyav(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(clips(root)) == 4
    (root / "a" / "x.mp4").write_bytes(b"never opened")
    with pytest.raises(ImportError, match=re.escape("pip install 'gpuaug[video]'")):
        clips(root)


# --- which frames -----------------------------------------------------------------------------------------------------
def test_frames_that_are_taken() -> None:
    taken = Sampling(4, 3, (8, 8))
    assert taken.of(20, 0.0) == [0, 3, 6, 9]
    assert taken.of(20, 0.9999999) == [10, 13, 16, 19]
    assert taken.of(10, 0.7) == [0, 3, 6, 9]
    assert taken.of(6, 0.7) == [0, 3, 5, 5]
    assert [taken.of(20, at, drawn=False)[0] for at in (0.0, 0.5, 1.0)] == [0, 5, 10]
    assert Sampling(5, "fit", (8, 8)).of(9, 0.3) == [0, 2, 4, 6, 8]
    assert Sampling(4, "fit", (8, 8)).of(2, 0.3) == [0, 0, 0, 1]


def test_starts_are_uniform_and_hang_on_seed_epoch_and_id() -> None:
    ids = torch.arange(4000)
    found = np.array(places(0, 0, ids))
    counts = np.bincount((found * 10).astype(int), minlength=10)
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert places(0, 0, ids.flip(0))[::-1] == found.tolist() and places(0, 0, ids[7:8]) == [found[7]]
    for other in (places(1, 0, ids), places(0, 1, ids), places(0, 0, ids + 4000)):
        assert abs(np.corrcoef(found, other)[0, 1]) < 0.06


def test_a_loader_draws_each_clip_anew_for_each_epoch(root: Path) -> None:
    source = clips(root, frames=4, stride=2, size=(H, W))
    few, many = Loader(source, 3, shuffle=True, seed=5), Loader(source, 1, seed=5, workers=0)
    starts = {one: set() for one in source.ids.tolist()}
    for epoch in range(12):
        few.set_epoch(epoch)
        many.set_epoch(epoch)
        found = shown(few)
        assert found == shown(many) and len(found) == 4
        for one, frames in found.items():
            starts[one].add(frames[0])
    sizes = dict(zip(source.ids.tolist(), (30, 12, 30, 3), strict=True))
    for one, n in sizes.items():
        assert starts[one] <= set(range(max(n - 6, 1)))
        assert len(starts[one]) > 5 if n == 30 else len(starts[one]) > 2 if n == 12 else starts[one] == {0}
    assert found[source.ids[3].item()] == [0, 2, 2, 2]


def test_several_clips_of_each_video(root: Path) -> None:
    source = clips(root, frames=4, stride=2, size=(H, W), clips_per_video=3)
    assert len(source) == 12 == len(set(source.ids.tolist())) and torch.equal(source.ids[::3], clips(root).ids)
    ((batch, labels, ids),) = Loader(source, 12)
    assert [numbers(clip)[0] for clip in batch] == [0, 12, 23, 0, 2, 5, 0, 12, 23, 0, 0, 0]
    assert labels.tolist() == [0] * 6 + [1] * 6 and torch.equal(ids, source.ids)
    seen = torch.tensor([11, 0, 4, 2, 9])
    means, places = by_video(torch.arange(24.0).view(12, 2)[seen], ids[seen], source)
    assert places.tolist() == [0, 3, 9] and means.tolist() == [[2, 3], [8, 9], [20, 21]]
    middle = clips(root, frames=4, stride=2, size=(H, W), clips_per_video=1)
    assert [numbers(clip)[0] for clip in next(iter(Loader(middle, 4)))[0]] == [12, 2, 12, 0]


def test_parts_are_split_by_video(tmp_path: Path) -> None:
    for name in "ab":
        for i in range(6):
            framed(tmp_path / name / f"{i}", 3, (8, 8))
    parts = clip_parts(tmp_path, 0.2, 0.34, frames=2, size=8, clips_per_video=2)
    alone = [set(part.ids.tolist()) for part in (parts.train, parts.val, parts.test)]
    assert len(set.union(*alone)) == sum(map(len, alone)) == 12 + len(parts.val) // 2 + len(parts.test) // 2
    assert len({item.path for part in (parts.train, parts.val, parts.test) for item in part.items}) == 12
    assert len(parts.test) == 8 and parts.train.items[0].at is None
    for name in "ab":
        for part in ("train", "test"):
            (tmp_path / "made" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / name).joinpath("0").rename(tmp_path / name / part)
            (tmp_path / "made" / part / name).mkdir()
            (tmp_path / name / part).rename(tmp_path / "made" / part / name / "0")
            (tmp_path / name / "1").rename(tmp_path / name / "0") if part == "train" else None
    made = clip_parts(tmp_path / "made", 0.0, frames=2, size=8)
    assert [len(made.train), made.val, len(made.test)] == [2, None, 2]


# --- pixels -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", CODECS)
def test_frames_of_a_file_are_those_of_decoding_all_of_it(tmp_path: Path, ending: str) -> None:
    path = video(tmp_path / f"x.{ending}")
    import av

    with av.open(str(path)) as file:
        every = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    known = videos.index(path)
    assert len(known) == len(every) == 40
    for wanted in ([0, 1, 2, 3], [5, 20, 20, 39], [17, 18, 33, 34], [39, 39, 39, 39]):
        out = np.zeros((4, H, W, 3), np.uint8)
        videos.frames_into(path, known, wanted, out)
        assert all(np.array_equal(out[t], every[k]) for t, k in enumerate(wanted))


def test_only_what_frames_hang_on_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "x.mp4", 40, gop=5)
    known, seen = videos.index(path), []
    assert known.keys.nonzero()[0].tolist() == list(range(0, 40, 5))
    search = videos._up_to
    monkeypatch.setattr(videos, "_up_to", lambda shown, *rest: search((seen.append(f) or f for f in shown), *rest))
    videos.frames_into(path, known, [6, 37], np.zeros((2, H, W, 3), np.uint8))
    assert len(seen) == 2 + 3


def test_a_turned_video_is_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a phone writes it: a display matrix in the file, which PyAV tells as the frame's rotation."""
    path = video(tmp_path / "x.mp4", 3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 36  # version and flags, and what precedes the matrix
    one = 0x10000
    assert int.from_bytes(data[at : at + 4], "big") == one
    words = [0, one, 0, -one, 0, 0, H * one, 0, 1 << 30]  # by 90 degrees, clockwise
    data[at : at + 36] = b"".join(word.to_bytes(4, "big", signed=True) for word in words)
    path.write_bytes(data)
    out = np.zeros((1, W, H, 3), np.uint8)
    videos.frames_into(path, videos.index(path), [0], out)
    plain = picture(0)
    assert (
        np.abs(out[0].astype(int) - np.rot90(plain, -1)).mean()
        < 12
        < np.abs(out[0] - np.rot90(plain).astype(int)).mean()
    )


def test_frames_are_scaled_and_cropped_as_they_are_decoded(tmp_path: Path) -> None:
    framed(tmp_path / "clip", 3, (90, 200), "jpg")
    (clip, _, _) = next(iter(Loader(clips(tmp_path, 3, size=(30, 40), labelled=False), 1)))
    assert clip.shape == (1, 3, 3, 30, 40)
    for t in range(3):
        image = Image.open(tmp_path / "clip" / f"frame{t}.jpg")
        image = image.resize((67, 30), Image.Resampling.BILINEAR).crop((13, 0, 53, 30))
        assert np.abs(clip[0, t].permute(1, 2, 0).numpy().astype(int) - np.asarray(image)).mean() < 3
    path = video(tmp_path / "x.mkv", 3)
    out = np.zeros((1, 24, 24, 3), np.uint8)
    videos.frames_into(path, videos.index(path), [1], out)
    small = Image.fromarray(picture(1)).resize((32, 24), Image.Resampling.BILINEAR).crop((4, 0, 28, 24))
    assert np.abs(out[0].astype(int) - np.asarray(small)).mean() < 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pipeline_gets_whole_clips_with_one_draw_each(root: Path, workers: int) -> None:
    ops = [ga.RandomResizedCrop(24), ga.ColorJitter(0.4, 0.4), ga.RandomTemporalFlip(), TO_FLOAT]
    augment, order = ga.Compose(ops, seed=1), {"seed": 3, "shuffle": True}
    source = clips(root, frames=5, stride=2, size=(H, W))
    raw, made = Loader(source, 2, **order), Loader(source, 2, augment, workers=workers, **order)
    for epoch in range(2):
        for (given, _, ids), (found, labels, same) in zip(raw, made, strict=True):
            assert torch.equal(ids, same) and found.shape == (2, 5, 3, 24, 24)
            assert torch.equal(found, augment(given.contiguous(), ids=ids, epoch=epoch))
            where = {one: int(label) for one, label in zip(source.ids.tolist(), source.labels, strict=True)}
            assert labels.tolist() == [where[one] for one in ids.tolist()]


def test_what_comes_out_is_not_the_loaders_own_memory(root: Path) -> None:
    for augment in (None, ga.Compose([ga.ToDtype(torch.uint8)])):
        batches = [batch for batch, _, _ in Loader(clips(root, 4, size=16, clips_per_video=2), 1, augment, workers=1)]
        again = [batch.clone() for batch, _, _ in Loader(clips(root, 4, size=16, clips_per_video=2), 1, augment)]
        assert all(map(torch.equal, batches, again))


# --- damage -----------------------------------------------------------------------------------------------------------
def test_damaged_clips_are_named_and_left_out(root: Path) -> None:
    video(root / "a" / "cut.mp4", 20)
    video(root / "b" / "noise.avi", 20)
    for name in ("a/cut.mp4", "b/noise.avi"):
        (root / name).write_bytes((root / name).read_bytes()[:300])
    (root / "a" / "two" / "frame3.png").write_bytes(b"")
    source = clips(root, frames=4, stride="fit", size=16)
    with pytest.raises(DataError, match=r"a.two.frame3\.png: .*empty"):
        list(Loader(source.subset([2]), 1, strict=True))
    loader = Loader(source, 6, max_bad=0.6)
    with pytest.warns(UserWarning, match="3 files were left out"):
        ((batch, labels, ids),) = list(loader)
    assert len(batch) == 3 and labels.tolist() == [0, 1, 1] and torch.equal(ids, source.ids[[1, 4, 5]])
    assert sorted(re.match(r".*?: ", one)[0][:-2] for one in loader.report.bad) == sorted(
        str(root / name) for name in ("a/cut.mp4", "a/two/frame3.png", "b/noise.avi")
    )
    assert all("video file" in one for one in loader.report.bad if "two" not in one)
    assert loader.report.images == 3 and loader.report.pixels == 3 * 4 * 16 * 16 and loader.report.bytes > 0
    (root / "a" / "one" / "frame0.png").unlink()
    with pytest.raises(DataError, match=r"frame0\.png: no such file"):
        list(Loader(source.subset([1]), 1))


def test_a_video_that_breaks_off(tmp_path: Path) -> None:
    path = video(tmp_path / "x.mkv", 40)
    known, data = videos.index(path), path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 0 < (n := len(videos.index(path))) < 40
    out = np.zeros((2, H, W, 3), np.uint8)
    with pytest.raises(
        DataError, match=r"x\.mkv: damaged video file \(frame 39 of 40 .*\); remove it or fetch it again"
    ):
        videos.frames_into(path, known, [0, 39], out)
    assert round(out[0, ..., 1].mean() / STEP) == 0
    source = clips(tmp_path, 2, "fit", (H, W), labelled=False)
    ((clip, _, _),) = Loader(source, 1)
    first, last = numbers(clip[0])
    assert first == 0 and n - 1 <= last < 39  # what there is of it, frames that are predicted from later ones aside


def test_an_mp4_that_says_how_many_frames_it_has_and_ends_early(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="video files are decoded by PyAV")
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height = W, H
        for frame in [av.VideoFrame.from_ndarray(picture(k), format="rgb24") for k in range(20)] + [None]:
            for packet in stream.encode(frame):
                file.mux(packet)
    assert len(videos.index(path)) == 20
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(DataError, match=r"x\.mp4: damaged video file \(it ends behind \d+ of 20 frames\)"):
        videos.index(path)


def test_what_is_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="video files are decoded by PyAV")
    with av.open(str(tmp_path / "x.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        for frame in (sound, None):
            for packet in stream.encode(frame):
                file.mux(packet)
    with pytest.raises(DataError, match="no pictures in this video file"):
        videos.index(tmp_path / "x.mp4")
    with pytest.raises(DataError, match="no such file"):
        videos.index(tmp_path / "y.mp4")


# --- the loader's promises --------------------------------------------------------------------------------------------
def test_resuming_and_sharing_an_epoch(root: Path) -> None:
    source = clips(root, frames=3, size=16, clips_per_video=4)
    keywords = {"shuffle": True, "seed": 2}
    every = [ids.tolist() for _, _, ids in Loader(source, 2, **keywords)]
    first = Loader(source, 2, **keywords)
    passing = iter(first)
    head = [next(passing)[2].tolist() for _ in range(3)]
    second = Loader(source, 2, **keywords)
    second.load_state_dict(first.state_dict())
    assert head + [ids.tolist() for _, _, ids in second] == every and len(first) == 8
    shares = [[ids.tolist() for _, _, ids in Loader(source, 2, rank=r, world=2, **keywords)] for r in range(2)]
    flat = sorted(one for share in shares for ids in share for one in ids)
    assert flat == sorted(source.ids.tolist())
    assert len(Loader(source.subset(range(5)), 2, drop_last=True)) == 2


def test_memory_stays_within_bounds(root: Path) -> None:
    source = clips(root, frames=4, size=32, clips_per_video=8)
    clip = 4 * 3 * 32 * 32
    loader = Loader(source, 2, ga.Compose([TO_FLOAT]), workers=2, ahead_bytes=4 * clip)
    for _ in loader:
        assert loader._maker.rooms.bytes <= 3 * 2 * clip * 1.2  # what may be ahead, and the batch that was handed out
