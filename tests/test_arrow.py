"""Arrow tables: judged by the same pipeline on images decoded whole, with the same ids and epoch."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gpuaug as ga

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow")
pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

from gpuaug.data import DataError, augment_batches, augment_table, header, parquet, read  # noqa: E402
from gpuaug.data.sources import id_of  # noqa: E402

TO_FLOAT = ga.ToDtype(torch.float32, scale=True)
N = 12
IDS = [7 * i + 1 for i in range(N)]


def crops(*behind: Any) -> ga.Compose:
    return ga.Compose([ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), *behind], seed=5)


def waves(i: int) -> np.ndarray:
    """uint8 [H, W, 3]."""
    rng = np.random.default_rng(i)
    h, w = rng.integers(30, 260, 2)
    return np.uint8(128 + 60 * np.sin(np.mgrid[:h, :w][:, ..., None] / rng.uniform(4, 30, (2, 1, 1, 3))).sum(0))


def encoded(pixels: np.ndarray, form: str = "JPEG", **keywords: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **keywords)
    return file.getvalue()


FILES = [encoded(waves(i), "PNG" if i % 3 == 0 else "JPEG") for i in range(N)]


def table_of(images: Any = None, **columns: Any) -> pa.Table:
    images = pa.array(FILES, pa.binary()) if images is None else images
    return pa.table({"id": IDS, "image": images, "label": [i % 3 for i in range(N)], **columns})


def whole(files: list[bytes] = FILES) -> list[torch.Tensor]:
    """The images uint8 [3, H, W], decoded whole."""
    return [torch.from_numpy(read(file).copy()).permute(2, 0, 1) for file in files]


def tensors(table: pa.Table) -> torch.Tensor:
    """The images of form="tensor", [B, ...]."""
    return torch.from_numpy(pa.table(table)["image"].combine_chunks().to_numpy_ndarray().copy())


def struct(cell: dict) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(cell["data"], cell["dtype"]).reshape(cell["shape"]).copy())


# --- the images -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_images_are_those_of_the_call_in_every_form(dtype) -> None:
    augment = crops(ga.ColorJitter(0.4, 0.4), ga.ToDtype(dtype, scale=True))
    wanted = augment(whole(), ids=IDS, epoch=3)
    table = table_of(name=[f"n{i}" for i in range(N)])
    found = augment_table(table, augment, epoch=3)
    assert tensors(found).dtype == dtype and torch.equal(tensors(found), wanted)
    assert found.schema.field("image").type.dim_names == ["C", "H", "W"]
    assert found.column_names == table.column_names and found.drop(["image"]).equals(table.drop(["image"]))
    cells = augment_table(table, augment, epoch=3, form="struct")["image"].to_pylist()
    assert all(torch.equal(struct(cell), one) for cell, one in zip(cells, wanted, strict=True))


@pytest.mark.parametrize("parts", [1, 3, 5])
@pytest.mark.parametrize("kind", ["Table", "RecordBatch", "augment_batches"])
def test_no_part_and_no_chunk_changes_a_draw(parts, kind) -> None:
    augment, table = crops(TO_FLOAT), table_of()
    wanted = tensors(augment_table(table, augment, epoch=1))
    rows = np.random.default_rng(0).permutation(N)
    mixed = table.take(rows)
    pieces = [mixed.slice(at, -(-N // parts)) for at in range(0, N, -(-N // parts))]
    if kind == "Table":  # of two chunks each
        pieces = [pa.concat_tables([piece.slice(0, 1), piece.slice(1)]) for piece in pieces]
        found = [augment_table(piece, augment, epoch=1) for piece in pieces]
    else:
        pieces = [piece.combine_chunks().to_batches()[0] for piece in pieces]
        if kind == "RecordBatch":
            found = [augment_table(piece, augment, epoch=1) for piece in pieces]
        else:
            make = partial(augment_batches, augment=augment, epoch=1, batch_size=3, form="tensor")
            found = list(pickle.loads(pickle.dumps(make))(iter(pieces)))
            assert max(batch.num_rows for batch in found) <= 3
        assert all(isinstance(batch, pa.RecordBatch) for batch in found)
        found = [pa.Table.from_batches([batch]) for batch in found]
    found = pa.concat_tables(found)
    assert found["id"].to_pylist() == [IDS[i] for i in rows]
    assert torch.equal(tensors(found), wanted[torch.from_numpy(rows)])


def test_views_and_a_pipeline_with_a_callable() -> None:
    for augment in (crops(TO_FLOAT), crops(lambda batch: 255 - batch, TO_FLOAT)):
        wanted = augment(whole(), ids=IDS, epoch=3, views=2)
        found = augment_table(table_of(), augment, epoch=3, views=2)
        assert found.schema.field("image").type.shape == [2, 3, 24, 24]
        assert torch.equal(tensors(found).transpose(0, 1), wanted)
        cells = augment_table(table_of(), augment, epoch=3, views=2, form="struct")["image"].to_pylist()
        assert all(torch.equal(struct(cells[i][v]), wanted[v, i]) for i in range(N) for v in range(2))


def test_images_of_any_size_as_structs() -> None:
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.ScaleJitter((64, 64))], seed=0)
    cells = augment_table(table_of(), augment, epoch=3, form="struct", views=2)["image"].to_pylist()
    wanted = augment(whole(), ids=IDS, epoch=3, views=2)
    assert all(torch.equal(struct(cells[i][v]), wanted[v][i]) for i in range(N) for v in range(2))
    with pytest.raises(ValueError, match="takes images of one size, and these have .* or take form='struct'"):
        augment_table(table_of(), augment, epoch=3)


def test_files_again() -> None:
    wanted = crops()(whole(), ids=IDS, epoch=3)
    found = augment_table(table_of(), crops(), epoch=3, form="png")
    assert found.schema.field("image").type == pa.binary()
    assert all(torch.equal(*pair) for pair in zip(whole(found["image"].to_pylist()), wanted, strict=True))
    found = augment_table(table_of(), crops(), epoch=3, form="jpeg", quality=60)["image"].to_pylist()
    assert found == [encoded(one.permute(1, 2, 0).numpy(), quality=60) for one in wanted]
    grey = augment_table(table_of(), crops(ga.Grayscale(1)), epoch=3, form="png", views=2)["image"].to_pylist()
    assert [Image.open(io.BytesIO(one)).mode for one in grey[0]] == ["L", "L"]


def test_files_are_known_where_they_lie(tmp_path: Path) -> None:
    """Arrow's buffers are of signed bytes; a JPEG there is decoded by rows, as one in a file is."""
    import pyarrow.parquet as pq

    pq.write_table(table_of().drop(["label"]), tmp_path / "a.parquet")
    source = parquet(tmp_path / "a.parquet")
    for i in range(N):
        assert header(source.items[i]) == header(FILES[i]) and (header(FILES[i]).frame is None) == (i % 3 == 0)


def test_no_more_is_decoded_than_the_crop_reads(monkeypatch) -> None:
    pytest.importorskip("simplejpeg", reason="Pillow decodes all rows")
    from gpuaug.data import jpeg

    cut = []

    def noting(data, frame, channels, rows, *more, of=jpeg.decoded):
        cut.append(rows < frame.height)
        return of(data, frame, channels, rows, *more)

    monkeypatch.setattr(jpeg, "decoded", noting)
    scaled = augment_table(table_of(), ga.Compose([ga.RandomResizedCrop(8)], seed=5), epoch=3, decode="scaled")
    assert sum(cut) > len(cut) / 4 > 0
    assert not torch.equal(tensors(scaled), ga.Compose([ga.RandomResizedCrop(8)], seed=5)(whole(), ids=IDS, epoch=3))


# --- columns of images ------------------------------------------------------------------------------------------------
def test_hugging_faces_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES[0])
    cells = [{"bytes": file, "path": f"{i}.jpg"} for i, file in enumerate(FILES)]
    cells[0] = {"bytes": None, "path": str(tmp_path / "a.png")}
    table = table_of(pa.array(cells)).replace_schema_metadata({"huggingface": "{}", "mine": "kept"})
    found = augment_table(table, crops(), epoch=3)
    assert torch.equal(tensors(found), crops()(whole(), ids=IDS, epoch=3))
    assert found.schema.metadata == {b"mine": b"kept"}
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"^id 1 \(.*a\.png\): no such file"):
        augment_table(table, crops(), epoch=3)


SQUARES = np.random.default_rng(0).integers(0, 256, (N, 32, 40, 3), dtype=np.uint8)


def fixed(array: np.ndarray, names: list[str] | None = None, order: list[int] | None = None) -> Any:
    storage = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array[0].size)
    type = pa.fixed_shape_tensor(pa.from_numpy_dtype(array.dtype), array.shape[1:], names, order)
    return pa.ExtensionArray.from_storage(type, storage)


def structs(images: list[np.ndarray]) -> Any:
    return pa.array([{"data": x.tobytes(), "shape": x.shape, "dtype": str(x.dtype)} for x in images])


class Rays(pa.ExtensionType):
    """What Ray makes of images of several sizes."""

    def __init__(self) -> None:
        storage = pa.struct({"data": pa.large_list(pa.uint8()), "shape": pa.list_(pa.int64())})
        super().__init__(storage, "test.variable_shaped_tensor")
        self.shape = (None, None, None)

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


def rays(images: list[np.ndarray]) -> Any:
    cells = [{"data": x.reshape(-1), "shape": x.shape} for x in images]
    return pa.ExtensionArray.from_storage(Rays(), pa.array(cells, Rays().storage_type))


FIRST = SQUARES.transpose(0, 3, 1, 2)
COLUMNS = {
    "fixed_shape_tensor [H, W, C]": (fixed(SQUARES), {}),
    "fixed_shape_tensor [C, H, W]": (fixed(np.ascontiguousarray(FIRST)), {}),
    "fixed_shape_tensor, axes named": (fixed(np.ascontiguousarray(SQUARES.swapaxes(1, 2)), ["W", "H", "C"]), {}),
    "fixed_shape_tensor, permuted": (fixed(np.ascontiguousarray(SQUARES.swapaxes(1, 2)), None, [1, 0, 2]), {}),
    "struct": (structs(list(FIRST)), {}),
    "tensors of several shapes": (rays(list(SQUARES)), {}),
    "lists, one shape": (pa.array([x.reshape(-1) for x in SQUARES], pa.list_(pa.uint8())), {"shape": (32, 40, 3)}),
    "lists, columns of shapes": (
        pa.array([x.reshape(-1) for x in SQUARES], pa.large_list(pa.uint8())),
        {"shape": ("h", "w", 3)},
    ),
    "fixed lists": (pa.array([x.reshape(-1) for x in SQUARES], pa.list_(pa.uint8(), 3840)), {"shape": "shape"}),
    "bytes of pixels": (pa.array([x.tobytes() for x in SQUARES], pa.large_binary()), {"shape": (32, 40, 3)}),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_pixels_in_a_column(name) -> None:
    column, keywords = COLUMNS[name]
    table = table_of(column, h=[32] * N, w=[40] * N, shape=[[32, 40, 3]] * N)
    wanted = crops()(torch.from_numpy(np.ascontiguousarray(FIRST)), ids=IDS, epoch=3)
    pieces = [table.slice(0, 5), table.slice(5)]  # whose buffers begin elsewhere
    found = torch.cat([tensors(augment_table(piece, crops(), epoch=3, **keywords)) for piece in pieces])
    assert torch.equal(found, wanted)


def test_what_was_made_goes_in_again() -> None:
    for form in ("tensor", "struct", "png"):
        once = augment_table(table_of(), crops(), epoch=3, form=form)
        twice = augment_table(once, ga.Compose([ga.RandomVerticalFlip()], seed=1), epoch=3)
        wanted = ga.Compose([ga.RandomVerticalFlip()], seed=1)(crops()(whole(), ids=IDS, epoch=3), ids=IDS, epoch=3)
        assert torch.equal(tensors(twice), wanted)


# --- ids, labels ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("type", ["string", "large_string", "dictionary", "uint64", "int8"])
def test_ids_of_any_type(type) -> None:
    paths = [f"cat/{i}.jpg" for i in range(N)]
    if "int" in type:
        column, ids = pa.array(range(N), getattr(pa, type)()), list(range(N))
    else:
        column, ids = pa.array(paths, pa.large_string() if type == "large_string" else pa.string()), map(id_of, paths)
        column = column.dictionary_encode() if type == "dictionary" else column
    found = augment_table(table_of(key=column), crops(), id="key", epoch=3)
    assert torch.equal(tensors(found), crops()(whole(), ids=list(ids), epoch=3))
    assert found["key"].type == column.type


def test_the_epoch_is_the_pipelines_where_none_is_given() -> None:
    augment = crops()
    augment.set_epoch(4)
    found = augment_table(table_of(), pickle.loads(pickle.dumps(augment)))
    assert torch.equal(tensors(found), crops()(whole(), ids=IDS, epoch=4))


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_labels_are_mixed(soft, views) -> None:
    labels = [i % 3 for i in range(N)]
    column = pa.array(np.eye(3)[labels].tolist()) if soft else pa.array(labels, pa.int32())
    table, augment = table_of().set_column(2, "label", column), crops(TO_FLOAT, ga.MixUp(num_classes=3))
    wanted = augment(whole(), torch.tensor(labels), ids=IDS, epoch=3, views=views)
    found = augment_table(table, augment, label="label", epoch=3, views=views)
    images, mixed = tensors(found), torch.tensor(found["label"].to_pylist())
    images, mixed = (x if views is None else x.transpose(0, 1) for x in (images, mixed))
    assert torch.equal(images, wanted[0]) and torch.equal(mixed, wanted[1])
    none = augment_table(table.slice(0, 0), augment, label="label", epoch=3, views=views)
    assert none.schema == found.schema and none.num_rows == 0
    with pytest.raises(ValueError, match="MixUp mixes labels, too; name their column, as label='label'"):
        augment_table(table, augment, epoch=3)


def test_labels_that_cannot_be_mixed_and_those_that_are_not() -> None:
    table = table_of().set_column(2, "label", pa.array(["a"] * N))
    kept = augment_table(table, crops(), label="label", epoch=3)
    assert kept["label"].to_pylist() == ["a"] * N
    for column in (["a"] * N, [None] * N, [[1.0], *[[1.0, 2.0]] * (N - 1)]):
        with pytest.raises(DataError, match="labels to be mixed are whole numbers, or lists.* column 'label' is"):
            augment_table(table.set_column(2, "label", pa.array(column)), crops(ga.CutMix()), label="label", epoch=3)


# --- nulls, nothing, damage -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["tensor", "struct", "jpeg", "png"])
@pytest.mark.parametrize("views", [None, 2])
def test_a_table_without_rows_has_the_same_schema(form, views) -> None:
    for table in (table_of(), table_of(fixed(SQUARES))):
        make = partial(augment_table, augment=crops(), epoch=3, form=form, views=views)
        assert make(table.slice(0, 0)).schema == make(table).schema
    assert next(augment_batches(iter([table.slice(0, 0)]), crops(), epoch=3)).num_rows == 0


def test_a_table_without_rows_and_a_size_that_follows() -> None:
    augment = ga.Compose([ga.RandomHorizontalFlip()], seed=0)
    assert augment_table(table_of(fixed(SQUARES)).slice(0, 0), augment)["image"].type.shape == [3, 32, 40]
    for one in (augment, ga.Compose([torch.nn.Identity(), ga.CenterCrop(8)], seed=0)):
        with pytest.raises(ValueError, match="a table without images says nothing of the size.* form='struct'"):
            augment_table(table_of().slice(0, 0), one, epoch=3)


def damaged() -> pa.Table:
    files = [*FILES]
    files[2], files[4], files[5] = FILES[2][:300], None, b""
    return table_of(pa.array(files))


def test_damage_is_named_by_its_id() -> None:
    with pytest.raises(DataError, match=r"^id 15: damaged image file|^id 15: .*ends"):
        augment_table(damaged().slice(0, 4), crops(), epoch=3)
    with pytest.raises(DataError, match=r"^id 29: no image there \(null\); drop the row, or pass strict=False"):
        augment_table(damaged().slice(4, 1), crops(), epoch=3)
    table = damaged().append_column("key", pa.array([f"p/{i}.jpg" for i in range(N)]))
    with pytest.raises(DataError, match=r"^id 'p/5\.jpg': not an image file"):
        augment_table(table.slice(5, 1), crops(), id="key", epoch=3)


@pytest.mark.parametrize("column", ["tensor", "struct", "list"])
def test_nulls_among_pixels(column) -> None:
    keywords = {"shape": (32, 40, 3)} if column == "list" else {}
    if column == "list":
        cells = pa.array([None, [None] * 3840, [1, 2], *[x.reshape(-1) for x in SQUARES[3:]]], pa.list_(pa.uint8()))
    elif column == "tensor":
        mask = pa.array([i < 3 for i in range(N)])
        cells = fixed(SQUARES)
        cells = pa.ExtensionArray.from_storage(cells.type, pa.compute.if_else(mask, None, cells.storage))
    else:
        cells = pa.array([None, None, None, *structs(list(SQUARES[3:])).to_pylist()])
    with pytest.warns(UserWarning, match="augment_table: 3 images were left out: id 1: .*; id 8: .*; id 15: "):
        found = augment_table(table_of(cells), crops(), epoch=3, strict=False, **keywords)
    wanted = crops()(torch.from_numpy(np.ascontiguousarray(FIRST[3:])), ids=IDS[3:], epoch=3)
    assert torch.equal(tensors(found), wanted)


def test_what_is_damaged_may_be_dropped() -> None:
    with pytest.warns(UserWarning, match="3 images were left out: id 15: .*; id 29: .*; id 36: "):
        found = augment_table(damaged(), crops(), epoch=3, strict=False)
    good = [i for i in range(N) if i not in (2, 4, 5)]
    assert found["id"].to_pylist() == [IDS[i] for i in good] and found["label"].to_pylist() == [i % 3 for i in good]
    assert torch.equal(tensors(found), crops()([whole()[i] for i in good], ids=[IDS[i] for i in good], epoch=3))
    with pytest.warns(UserWarning, match="1 images were left out"):
        none = augment_table(damaged().slice(4, 1), crops(), epoch=3, strict=False)
    assert none.num_rows == 0 and none.schema == found.schema
    batch = damaged().slice(0, 4).combine_chunks().to_batches()[0]
    with pytest.warns(UserWarning, match="1 images were left out"):
        assert augment_table(batch, crops(), epoch=3, strict=False).num_rows == 3


# --- what cannot be ---------------------------------------------------------------------------------------------------
def test_columns_that_are_wrong() -> None:
    def wrong(match: str, table: pa.Table | None = None, **keywords: Any) -> None:
        with pytest.raises(DataError, match=match):
            augment_table(table_of() if table is None else table, crops(), epoch=3, **keywords)

    table = table_of()
    wrong("no column 'id' among image, label; name it: id=...; rows need one, as a key or a path", table.drop(["id"]))
    wrong("no column 'img' among id, image, label; name it: image=", image="img")
    wrong("several columns 'image'", table.append_column("image", table["image"]))
    wrong("row 1 has no key, and draws belong to ids", table_of(key=[1, None, *range(N - 2)]), id="key")
    wrong("ids are whole numbers or strings, and the column 'key' is double", table_of(key=[0.5] * N), id="key")
    wrong("the column 'image' is list<.*int64>; give shape=", table_of(pa.array([[1, 2]] * N)))
    wrong("the column 'label' is int64$", image="label")
    wrong("no column 'klass' among id, image, label; name it: label=", label="klass")
    wrong("id 1: pixels are uint8, and this array is int64", table_of(pa.array([[1, 2, 3]] * N)), shape=(1, 1, 3))
    odd = pa.array([{"data": b"abc", "shape": [1, 1, 3], "dtype": "float17"}] * N)
    wrong("id 1: damaged image file .*float17", table_of(odd))
    wrong(r"id 1: 3 numbers are no image of the shape \(5, 1, 3\)", table_of(pa.array([b"abc"] * N)), shape=(5, 1, 3))


def test_arguments_that_are_wrong() -> None:
    def wrong(match: str, kind: type, *, table: Any = None, augment: Any = None, **keywords: Any) -> None:
        with pytest.raises(kind, match=match):
            augment_table(table_of() if table is None else table, crops() if augment is None else augment, **keywords)

    wrong(r"table must be a pyarrow Table or RecordBatch, got \{\}", TypeError, table={})
    wrong("augment must be a gpuaug.Compose, got 3", TypeError, augment=3)
    wrong("form must be one of tensor, struct, jpeg, png, got 'gif'", ValueError, form="gif")
    wrong("decode must be one of full, scaled, got 'half'", ValueError, decode="half")
    wrong("quality must lie in 1 .. 100, got 0", ValueError, quality=0)
    wrong("did you mean 'views'", TypeError, view=2)
    wrong("form='jpeg' takes uint8.* leave out ToDtype", ValueError, augment=crops(TO_FLOAT), form="jpeg", epoch=3)
    wrong(
        "takes uint8, float16 and float32", ValueError, augment=crops(ga.ToDtype(torch.bfloat16, scale=True)), epoch=3
    )
    wrong("must make tensors, got", TypeError, augment=crops(ga.ToPILImage()), epoch=3)
    wrong("CopyPaste: pastes objects by their masks", ValueError, augment=crops(ga.CopyPaste()), epoch=3)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(augment_batches([], crops(), batch_size=0))


def test_pyarrow_is_imported_when_it_is_asked_for() -> None:
    code = """
import sys, gpuaug.data
assert "pyarrow" not in sys.modules
sys.modules["pyarrow"] = None
try:
    from gpuaug.data import augment_table
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "gpuaug.data.augment_table needs pyarrow: pip install 'gpuaug[parquet]'", done.stderr
