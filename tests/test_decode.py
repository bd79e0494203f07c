"""Decoding, judged by Pillow: orientation, modes, windows and scales, sizes."""

from __future__ import annotations

import importlib
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="images are judged by Pillow")

from PIL import Image  # noqa: E402
from stored import FORMATS, averaged, has, judged, picture, stored, tagged  # noqa: E402

import gpuaug.data.items as items_of  # noqa: E402
import gpuaug.data.jpeg as jpeg  # noqa: E402
from gpuaug.data import DataError, header, load, read  # noqa: E402
from gpuaug.data.decode import rows_into, straight  # noqa: E402
from gpuaug.data.headers import orientation_of  # noqa: E402
from gpuaug.data.items import Files, Slice  # noqa: E402


# --- orientation, windows, scales -------------------------------------------------------------------------------------
@pytest.mark.parametrize("format", FORMATS)
def test_an_image_is_upright_as_pillow_has_it(format, decoder):
    if not has(format):
        pytest.skip(f"this Pillow has no {format}")
    for orientation in range(1, 9):
        data = tagged(picture(), format, orientation)
        truth, about = judged(data), header(data)
        assert (about.height, about.width, about.orientation) == (*truth.shape[:2], orientation)
        assert np.array_equal(read(data), truth), orientation


@pytest.mark.parametrize("format", [f for f in FORMATS if FORMATS[f].get("format", f) != "JPEG"])
def test_other_formats_are_averaged(format):
    if not has(format):
        pytest.skip(f"this Pillow has no {format}")
    for orientation in (1, 3, 6):
        data = tagged(picture(61, 83), format, orientation)
        for shrink in (1, 2, 4, 8):
            assert np.array_equal(read(data, shrink=shrink), averaged(judged(data), shrink))
        assert not header(data).shrinks


@pytest.mark.parametrize("format", ["JPEG", "progressive", "restarts"])
@pytest.mark.parametrize("size", [(96, 64), (61, 83), (9, 200)])
def test_a_jpeg_is_decoded_at_its_scales(format, size, decoder):
    """To the bit what libjpeg makes of it; and near the average, also where its grid begins at the other end."""
    for orientation in range(1, 9):
        data = tagged(picture(*size), format, orientation)
        truth = judged(data)
        assert header(data).shrinks
        for shrink in (2, 4, 8):
            part = read(data, shrink=shrink)
            assert part.shape == (-(-truth.shape[0] // shrink), -(-truth.shape[1] // shrink), 3)
            if orientation == 1:
                file = Image.open(io.BytesIO(data))
                file.draft("RGB", (file.width // shrink, file.height // shrink))
                assert np.array_equal(part, np.asarray(file))
            assert np.abs(part.astype(int) - averaged(truth, shrink)).mean() < 4, (orientation, shrink)


@pytest.mark.parametrize("format", FORMATS)
def test_a_window_is_the_same_pixels(format, decoder):
    if not has(format):
        pytest.skip(f"this Pillow has no {format}")
    rng = np.random.default_rng(3)
    for orientation in range(1, 9):
        data = tagged(picture(93, 70), format, orientation)
        about = header(data)
        for shrink in (1, 2, 4, 8):
            whole = read(data, shrink=shrink)
            for _ in range(4):
                top, left = int(rng.integers(0, about.height)), int(rng.integers(0, about.width))
                height = int(rng.integers(1, about.height - top + 1))
                width = int(rng.integers(1, about.width - left + 1))
                part = read(data, (top, left, height, width), shrink)
                last = -(-(top + height) // shrink), -(-(left + width) // shrink)
                assert np.array_equal(part, whole[top // shrink : last[0], left // shrink : last[1]])


def test_rows_below_the_window_are_not_decoded(monkeypatch):
    simplejpeg = pytest.importorskip("simplejpeg")
    rows = []

    class Watched:
        @staticmethod
        def decode_jpeg(data, **keywords):
            pixels = simplejpeg.decode_jpeg(data, **keywords)
            rows.append(len(pixels))
            return pixels

    monkeypatch.setattr(jpeg, "library", lambda: Watched)
    data = stored(picture(800, 40), "JPEG", subsampling=2)
    assert np.array_equal(read(data, (0, 0, 100, 40)), judged(data)[:100])
    assert rows == [128]  # 7 rows of blocks of 16, and one that chroma is interpolated with
    progressive = stored(picture(800, 40), "JPEG", progressive=True)
    read(progressive, (0, 0, 100, 40)), read(data + b"more", (0, 0, 100, 40))
    assert rows[1:] == [800, 800]
    full = stored(picture(800, 40), "JPEG", subsampling=0)
    assert np.array_equal(read(full, (0, 0, 100, 40)), judged(full)[:100])
    assert rows[3:] == [104]  # chroma of as many rows is not interpolated


def test_the_real_photographs(data_dir, decoder):
    for path in sorted((data_dir / "photos").glob("*.jpg")):
        truth = judged(path.read_bytes())
        assert np.array_equal(read(path), truth)
        height, width = truth.shape[:2]
        window = height // 5, width // 7, height // 2, width // 3
        part = truth[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]
        assert np.array_equal(read(path, window), part)


def test_windows_and_scales_that_are_none():
    data = stored(picture(20, 30), "PNG")
    for window in ((0, 0, 21, 5), (-1, 0, 5, 5), (0, 0, 0, 5), (0, 28, 5, 3)):
        with pytest.raises(ValueError, match="leaves an image in memory, 20 x 30") as error:
            read(data, window)
        assert not isinstance(error.value, DataError)
    with pytest.raises(ValueError, match="shrink is 1, 2, 4 or 8, got 3"):
        read(data, shrink=3)


def test_pixels_are_written_where_they_are_wanted(decoder):
    for format in ("JPEG", "PNG"):
        data = tagged(picture(), format, 1)
        for window, shrink in ((None, 1), (None, 2), ((8, 16, 24, 32), 4)):
            wanted = read(data, window, shrink)
            out = np.zeros_like(wanted)
            assert read(data, window, shrink, out=out) is out
            assert np.array_equal(out, wanted)
        with pytest.raises(ValueError, match=r"out is uint8 \(3, 3, 3\), and the image is uint8 \(60, 90, 3\)"):
            read(data, out=np.zeros((3, 3, 3), np.uint8))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("shrink", [1, 2, 8])
def test_rows_are_decoded_straight_into_their_place(subsampling, shrink):
    pytest.importorskip("simplejpeg")
    for mode in ("L", "RGB"):
        data = stored(picture(203, 90).convert(mode), "JPEG", subsampling=subsampling)
        one, whole = load(data), read(data, shrink=shrink)
        header(one)
        for bottom in (16, 56, 96, 200, 203):
            window = 0, 8, bottom, 82
            rows = straight(one.known, window, shrink, True)
            assert bottom <= rows <= min(bottom + 31, 203)
            out = np.zeros((-(-rows // shrink), *whole.shape[1:]), np.uint8)
            rows_into(one, rows, shrink, out)
            last = -(-bottom // shrink)
            assert np.array_equal(out[:last], whole[:last])
    assert straight(one.known, (0, 0, 8, 16), 1, True) == straight(one.known, (160, 0, 16, 90), 1, True) == 0
    for other in (stored(picture(), "PNG"), tagged(picture(), "JPEG", 6)):
        one = load(other)
        known = header(one)
        assert straight(one.known, (0, 0, known.height, known.width), 1, True) == 0


def test_what_pillow_must_judge_comes_straight_too(monkeypatch):
    simplejpeg = pytest.importorskip("simplejpeg")

    class Refuses:
        @staticmethod
        def decode_jpeg(*_, **__):
            raise ValueError("refused")

    data = stored(picture(203, 90), "JPEG", subsampling=2)
    one = load(data)
    header(one)
    rows, out = straight(one.known, (0, 0, 100, 90), 1, True), np.zeros((128, 90, 3), np.uint8)
    monkeypatch.setattr(jpeg, "library", lambda: Refuses)
    rows_into(one, rows, 1, out)
    assert rows == 128 and np.array_equal(out, judged(data)[:128]) and simplejpeg is not Refuses


# --- where the bytes come from ----------------------------------------------------------------------------------------
def test_any_item_has_the_same_pixels(tmp_path):
    data = tagged(picture(), "JPEG", 6)
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.bin").write_bytes(b"12345" + data + b"678")
    truth = judged(data)
    encoded = load(tmp_path / "a.jpg")
    for item in (
        tmp_path / "a.jpg",
        str(tmp_path / "a.jpg"),
        Slice(tmp_path / "b.bin", 5, len(data)),
        data,
        bytearray(data),
        memoryview(data),
        np.frombuffer(data, np.uint8),
        torch.frombuffer(bytearray(data), dtype=torch.uint8),
        lambda: tmp_path / "a.jpg",
        Image.open(io.BytesIO(data)),
        truth,
        torch.from_numpy(truth.copy()).permute(2, 0, 1),
        encoded,
    ):
        assert np.array_equal(read(item), truth)
        assert (header(item).height, header(item).width) == truth.shape[:2]
        assert np.array_equal(read(item, (8, 4, 20, 30)), truth[8:28, 4:34])
    (tmp_path / "a.jpg").unlink()
    assert np.array_equal(read(encoded, (8, 4, 20, 30)), truth[8:28, 4:34])  # nothing is read twice


def test_files_are_read_into_memory_that_is_used_again(tmp_path, monkeypatch):
    data = [stored(picture(100 + 40 * k, 300), "JPEG", subsampling=k % 3, quality=100) for k in range(8)]
    for k, one in enumerate(data):
        (tmp_path / f"{k}.jpg").write_bytes(one)
    (tmp_path / "b.bin").write_bytes(b"12345" + data[0] + b"678")
    files = Files()
    files.memory = memoryview(bytearray(2 * len(data[0])))  # too little for all, and even for one
    memories = []
    for _ in range(4):
        found = [files.load(tmp_path / f"{k}.jpg") for k in range(8)]
        found.append(files.load(Slice(tmp_path / "b.bin", 5, len(data[0]))))
        for one, wanted in zip(found, [*data, data[0]], strict=True):
            assert np.array_equal(read(one, (0, 0, 50, 300)), judged(wanted)[:50])
            assert bytes(one.data) == wanted  # also behind a decoding that cut the image short
        memories.append(files.memory)
        files.clear()
    assert memories[0] is not memories[-1] is memories[-2]
    monkeypatch.setattr(items_of, "KEPT_MEMORY", len(memories[-1]) - 1)
    files.clear()
    assert files.memory is not memories[-1]
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, told in (("empty.jpg", "it is empty"), ("gone.jpg", "no such file"), ("", "a folder")):
        with pytest.raises(DataError, match=told):
            files.load(tmp_path / name)
    with pytest.raises(DataError, match="it ends before this image does"):
        files.load(Slice(tmp_path / "b.bin", 5, 2 * len(data[0])))


def test_what_a_file_is_called_does_not_matter(tmp_path):
    for format, name in (("PNG", "a.jpg"), ("JPEG", "b.png"), ("WEBP", "c.bmp"), ("BMP", "d")):
        (tmp_path / name).write_bytes(stored(picture(), format))
        assert np.array_equal(read(tmp_path / name), judged((tmp_path / name).read_bytes()))


def test_a_header_takes_few_bytes(tmp_path, monkeypatch):
    """Of 4 MB, less than 100 kB; and an EXIF tag behind the pixels is found."""
    tag = Image.Exif()
    tag[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), dtype=np.uint8))
    png = stored(noise, "PNG", compress_level=0)
    end = png.rindex(b"IEND") - 4
    exif = tag.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    (tmp_path / "a.png").write_bytes(png[:end] + chunk + png[end:])
    count = 0

    class Counted(io.BufferedReader):
        def read(self, size=-1):
            nonlocal count
            data = super().read(size)
            count += len(data)
            return data

    decode_module = importlib.import_module("gpuaug.data.decode")
    monkeypatch.setattr(decode_module, "open", lambda path, mode: Counted(io.FileIO(path)), raising=False)
    about = header(tmp_path / "a.png")
    assert (about.height, about.width, about.orientation) == (1500, 1000, 6) and count < 100_000
    assert read(tmp_path / "a.png", shrink=8).shape == (188, 125, 3)


# --- modes ------------------------------------------------------------------------------------------------------------
MODES = {
    "PNG": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "CMYK", "YCbCr"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "L", "P", "RGB"),
    "PPM": ("1", "L", "RGB"),
}


@pytest.mark.parametrize("format", MODES)
def test_modes_as_pillow_converts_them(format, decoder):
    for mode in MODES[format]:
        image = picture().quantize(17) if mode == "P" else picture().convert(mode)
        data = stored(image, format)
        assert np.array_equal(read(data), judged(data)), mode


def test_a_cmyk_jpeg_of_adobe_is_not_inverted():
    data = stored(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(read(data).astype(int) - (255, 0, 0)).max() < 10


def test_grey_of_16_and_12_bits():
    grey = (np.arange(4096, dtype=np.uint16) * 16).reshape(64, 64)
    for format in ("PNG", "TIFF", "PPM"):
        pixels = read(stored(Image.fromarray(grey), format))
        assert np.array_equal(pixels[..., 1], grey >> 8), format
    assert np.array_equal(read(_tiff_of_12_bits(grey >> 4))[..., 0], grey >> 8)
    with pytest.raises(DataError, match=r"pixel mode 'F' has no fixed range; save it as 8 or 16 bits"):
        read(stored(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def _tiff_of_12_bits(values: np.ndarray) -> bytes:
    """A grey TIFF, two values in three bytes."""
    a, b = values.reshape(-1, 2).T.astype(int)
    data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, 12), (259, 1), (262, 1), (277, 1)]
    tags = [(tag, 4 if tag in (273, 279) else 3, value) for tag, value in [*tags, (278, values.shape[0])]]
    tags = sorted([*tags, (273, 4, 8 + 2 + 12 * 9 + 4), (279, 4, len(data))])
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def test_transparency_shows_the_background():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, np.array([0, 64, 128, 255])
    for format in ("PNG", "TIFF", "WEBP"):
        data = stored(
            Image.fromarray(pixels), format, **({"lossless": True, "exact": True} if format == "WEBP" else {})
        )
        for background in ((255, 255, 255), (0, 10, 255)):
            alpha = pixels[..., 3:] / 255
            truth = np.floor(pixels[..., :3] * alpha + np.array(background) * (1 - alpha) + 0.5)
            assert np.abs(read(data, background=background) - truth).max() <= (0 if format != "WEBP" else 1)
    assert (read(stored(Image.fromarray(pixels), "PNG"))[:, 0] == 255).all()  # white, where nobody says
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    data = stored(palette, "GIF", transparency=1)
    assert read(data).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_the_first_frame_of_several():
    frames = [picture(seed=seed) for seed in range(3)]
    for format in ("GIF", "TIFF", "WEBP", "PNG"):
        data = stored(frames[0], format, save_all=True, append_images=frames[1:])
        first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(read(data), first)


def test_heic_needs_its_package(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        with pytest.raises(DataError, match=r"a\.heic: a HEIC file, which needs pillow-heif: pip install pillow-heif"):
            read(tmp_path / "a.heic")
        return
    with pytest.raises(DataError, match=r"a\.heic"):
        read(tmp_path / "a.heic")
    heif.from_pillow(picture()).save(tmp_path / "b.heic", quality=95)
    assert np.abs(read(tmp_path / "b.heic").astype(int) - np.asarray(picture())).mean() < 8


# --- EXIF -------------------------------------------------------------------------------------------------------------
def exif(kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    return head + struct.pack(order + "HHI", 0x0112, kind, count) + value.ljust(4, b"\0") + bytes(4)


def test_odd_tags_of_orientation():
    assert orientation_of(exif(3, 1, struct.pack("<H", 6))) == 6
    assert orientation_of(exif(3, 1, struct.pack(">H", 8), ">")) == 8
    assert orientation_of(b"Exif\0\0" + exif(4, 1, struct.pack("<I", 3))) == 3  # a long
    for odd in (
        exif(3, 1, struct.pack("<H", 0)),
        exif(3, 1, struct.pack("<H", 9)),
        exif(1, 1, b"\x06"),  # a byte, which Pillow does not take either
        exif(2, 2, b"6\0"),  # a text
        exif(3, 0, b""),
        exif(7, 4, b"\xff\xff\xff\xff"),
        exif(99, 1, b"\x06"),
        exif(3, 1, struct.pack("<H", 6))[:14],
        b"II*\0\xff\xff\xff\xff",
        b"nonsense",
        b"",
    ):
        assert orientation_of(odd) == 1, odd
    assert orientation_of(b"", b'<x tiff:Orientation="6"/>') == 6
    assert orientation_of(exif(3, 1, struct.pack("<H", 3)), b'<x tiff:Orientation="6"/>') == 3


def test_odd_tags_do_not_spoil_an_image(decoder):
    plain = stored(picture(), "JPEG")
    for odd in (exif(2, 2, b"6\0"), exif(3, 1, struct.pack("<H", 6))[:14], b"\xff" * 40):
        body = b"Exif\0\0" + odd
        data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
        assert header(data).orientation == 1 and np.array_equal(read(data), judged(plain))


# --- sizes ------------------------------------------------------------------------------------------------------------
CHILD = """
import resource, sys
from pathlib import Path
from gpuaug.data import DataError, decode, header, read
small, folder = Path(sys.argv[1]), Path(sys.argv[1]).parent
decode(small, 224), read(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ("strip.png", "strip.jpg"):
    assert decode(folder / name, 224).shape == (3, 224, 224)
    assert read(folder / name).shape == (30000, 2, 3)
assert (header(folder / "huge.jpg").height, header(folder / "huge.jpg").width) == (8000, 8000)
assert read(folder / "huge.jpg", shrink=8).shape == (1000, 1000, 3)
assert decode(folder / "huge.jpg", 224).shape == (3, 224, 224)
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit >> 20)
"""


def test_slender_and_huge_images_take_little_memory(tmp_path):
    pytest.importorskip("resource", reason="memory is not measured here")
    Image.linear_gradient("L").resize((2, 30000)).save(tmp_path / "strip.png")
    Image.linear_gradient("L").resize((2, 30000)).save(tmp_path / "strip.jpg")
    Image.new("L", (8000, 8000), 90).save(tmp_path / "huge.jpg", quality=30)
    picture().save(tmp_path / "small.jpg")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "small.jpg"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, "MiB beyond a small image"


def test_more_pixels_than_may_be_are_refused_and_the_limit_can_be_raised(monkeypatch, tmp_path):
    path = tmp_path / "large.jpg"
    picture(400, 600).save(path)
    monkeypatch.setattr(items_of, "MAX_PIXELS", 200_000)
    with pytest.raises(DataError, match=r"large\.jpg: 0 megapixels would be decoded.*raise gpuaug\.data\.items\.MAX_P"):
        read(path)
    assert read(path, shrink=2).shape == (200, 300, 3)
    monkeypatch.setattr(items_of, "MAX_PIXELS", 240_000)
    assert read(path).shape == (400, 600, 3)


def test_a_png_that_says_it_is_enormous_is_refused(tmp_path):
    data = bytearray(stored(picture(), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DataError, match="3600 megapixels would be decoded"):
        read(bytes(data))
