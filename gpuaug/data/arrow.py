"""Arrow tables of images: the same tables with their images augmented, a part of a data set at a time.

Ray Data and Spark hand such parts to a function on many machines. A draw belongs to (seed, epoch, id), so it does not
matter which machine gets which rows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..compose import Compose
from ..keys import CPU
from ..messages import shown, spelt, warn
from ..order import within
from ..recipe import asked_for
from ..transforms.mixing import Mixer
from .batches import Maker
from .errors import DataError, named
from .items import Encoded, load
from .reading import Reading
from .sources import Source, id_of
from .tables import bytes_of

FORMS = ("tensor", "struct", "jpeg", "png")
DECODES = ("full", "scaled")
MOST_BYTES = 2**31 - 1  # of a column of bytes: Arrow counts them by 32 bits
ANY_SIZES = [(4096, 5120), (5120, 4096)]  # of images that there are not
FILES = ("binary", "large_binary", "binary_view")
STRINGS = ("string", "large_string", "string_view")
Table = pa.Table | pa.RecordBatch


@spelt
def augment_table(
    table: Table,
    augment: Compose,
    *,
    image: str = "image",
    id: str = "id",
    label: str | None = None,
    shape: str | Sequence[str | int] | None = None,
    epoch: int | None = None,
    views: int | None = None,
    form: str = "tensor",
    quality: int = 95,
    decode: str = "full",
    strict: bool = True,
) -> Table:
    """A table with its images augmented; all other columns are kept as they are.

    The images are those of ``augment(images, labels, ids=ids, epoch=epoch, views=views)`` to the bit, whichever rows
    come together in a table. Only what looks at other samples of a batch (MixUp, CutMix, Mosaic, same_on_batch, a
    callable of yours) depends on that: the table is the batch. The pipeline draws first, and no more is decoded than it
    reads. The calling thread decodes, and the engine has threads of its own, as ``torch.get_num_threads()`` says.

    Args:
        table: a pyarrow Table or RecordBatch, in chunks of any size. All its images are in memory at once.
        augment: the pipeline. It draws by ids alone, so it may be pickled and sent to other machines.
        image: the column of images, which is replaced. It holds files as bytes, or as {bytes, path} as Hugging Face has
            them, of which the path is read where there are no bytes; or uint8 pixels: Arrow's fixed_shape_tensor, the
            tensors of Ray, what ``form="struct"`` made, or lists and bytes with ``shape``. The channels, 1, 3 or 4 of
            them, are the axis C of a tensor whose axes have names; else the last axis, or the first if only that can
            be.
        id: the column of the samples' ids: whole numbers, or strings, such as paths below the data set, of which
            :func:`gpuaug.data.sources.id_of` makes ids.
        label: the column of labels, if the pipeline mixes them: whole numbers or lists of numbers. It becomes
            list<float>, soft labels [K] of each sample. A pipeline that does not mix leaves it alone.
        shape: of lists of pixels, or of their bytes: a column of lists [H, W, C]; or each of the three, a number or
            a column: ``("height", "width", 3)``.
        epoch: of the draws; None: the pipeline's, see ``set_epoch``.
        views: how many independent draws each sample gets.
        form: what the images become.

            - "tensor": fixed_shape_tensor [C, OH, OW], named so. All images have one size and are uint8, float16 or
              float32. Ray makes arrays and torch tensors of it.
            - "struct": {data: binary, shape: list<int32>, dtype: string}: contiguous bytes, little endian, [C, OH, OW],
              and numpy's name of the dtype. Spark carries it as ``struct<data: binary, shape: array<int>, dtype:
              string>``. Sizes may differ.
            - "jpeg", "png": files again, binary, of uint8 images with 1 or 3 channels.

            With views a tensor has an axis V in front, [V, C, OH, OW]; the others are lists of V; soft labels, too.
        quality: of JPEG, 1 to 100.
        decode: "full", or "scaled", which decodes a JPEG at 1/2, 1/4 or 1/8 of its size where the crop remains at least
            as large as the output.
        strict: raise at an image that is missing or damaged. Else its row is dropped, and a warning names it.

    Returns:
        A table of the same class.

    Raises:
        DataError: a column that is missing or of another type, a row without an id; an image that cannot be read, by
            its id.
        ValueError, TypeError: arguments that cannot be; a form that these images do not have.
    """
    _check(table, augment, form, decode, quality)
    ids, names = _ids(_column(table, id, "id"), id)
    images = _images(_column(table, image, "image"), table, image, shape, names)
    mixers = [type(op).__name__ for op in within(augment.transforms) if isinstance(op, Mixer)]
    if mixers and label is None:
        raise ValueError(f"augment_table: {mixers[0]} mixes labels, too; name their column, as label='label'")
    given = None if label is None else _column(table, label, "label")
    labels = _labels(given, label) if mixers else None
    maker = Maker(Source(images, ids, labels), augment, decode, CPU, views=views)
    batch = maker.make(np.arange(len(images)), epoch)
    if batch.bad:
        _left_out(batch.bad, strict)
    if len(batch.positions):
        found, soft, _ = maker.handed(maker.launch(batch))
    else:
        found, soft = _nothing(augment, views, images, form), None
    made = {image: _of_images(found, form, views is not None, quality)}
    if mixers:
        made[label] = _of_labels(soft, views is not None)
    kept = table if len(batch.positions) == len(images) else table.take(pa.array(batch.positions))
    return _replaced(kept, made)


def augment_batches(
    batches: Iterable[pa.RecordBatch],
    augment: Compose,
    *,
    batch_size: int = 64,
    form: str = "struct",
    **keywords: Any,
) -> Iterator[pa.RecordBatch]:
    """What Spark's ``mapInArrow`` takes, as ``functools.partial(augment_batches, augment=augment, epoch=3)``.

    Args:
        batches: of any sizes. They are cut, so that no more than ``batch_size`` images are in memory at once.
        augment, keywords: as for :func:`augment_table`. A pipeline that mixes does so within ``batch_size`` rows.
    """
    if batch_size < 1:
        raise ValueError(f"augment_batches: batch_size must be at least 1, got {batch_size}")
    for batch in batches:
        for at in range(0, max(batch.num_rows, 1), batch_size):
            yield augment_table(batch.slice(at, batch_size), augment, form=form, **keywords)


def _check(table: Any, augment: Any, form: str, decode: str, quality: int) -> None:
    if not isinstance(table, Table):
        raise TypeError(f"augment_table: table must be a pyarrow Table or RecordBatch, got {shown(table)}")
    if not isinstance(augment, Compose):
        raise TypeError(f"augment_table: augment must be a gpuaug.Compose, got {shown(augment)}")
    for name, value, known in (("form", form, FORMS), ("decode", decode, DECODES)):
        if value not in known:
            raise ValueError(f"augment_table: {name} must be one of {', '.join(known)}, got {value!r}")
    if not 1 <= quality <= 100:
        raise ValueError(f"augment_table: quality must lie in 1 .. 100, got {quality}")


def _left_out(bad: list[str], strict: bool) -> None:
    if strict:
        raise DataError(bad[0])
    warn(f"augment_table: {len(bad)} images were left out: {'; '.join(bad)}")


# --- what comes in ----------------------------------------------------------------------------------------------------
def _column(table: Table, name: str, argument: str) -> pa.ChunkedArray:
    if table.schema.names.count(name) != 1:
        there = f"no column {name!r} among {', '.join(table.schema.names)}"
        if name in table.schema.names:
            there = f"several columns {name!r}"
        mend = "; rows need one, as a key or a path of the data set, to have the same draw everywhere"
        raise DataError(f"augment_table: {there}; name it: {argument}=...{mend if argument == 'id' else ''}")
    column = table.column(name)
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _ids(column: pa.ChunkedArray, name: str) -> tuple[torch.Tensor, list[str]]:
    """int64 [N], and what errors call the samples."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(
            f"augment_table: row {row} has no {name}, and draws belong to ids; drop the row, or give it one"
        )
    if pa.types.is_integer(column.type):
        ids = column.cast(pa.int64(), safe=False).to_pylist()
        return torch.tensor(ids, dtype=torch.int64), [f"id {one}" for one in ids]
    if str(column.type) in STRINGS:
        paths = column.to_pylist()
        return torch.tensor([id_of(path) for path in paths], dtype=torch.int64), [f"id {one!r}" for one in paths]
    raise DataError(f"augment_table: ids are whole numbers or strings, and the column {name!r} is {column.type}")


def _labels(column: pa.ChunkedArray, name: str) -> torch.Tensor:
    if pa.types.is_integer(column.type) and not column.null_count:
        return torch.tensor(column.to_pylist(), dtype=torch.int64)
    try:
        labels = torch.tensor(column.to_pylist(), dtype=torch.float32)
    except (TypeError, ValueError):
        labels = torch.empty(0)
    if labels.ndim == 2 or not len(column):
        return labels
    raise DataError(
        f"augment_table: labels to be mixed are whole numbers, or lists of as many numbers each, and the "
        f"column {name!r} is {column.type} with {column.null_count} nulls"
    )


class _Files(Sequence):
    """Images as files' bytes, each where it lies."""

    def __init__(self, column: pa.ChunkedArray, paths: pa.ChunkedArray | None, names: list[str]):
        self.column, self.paths, self.names, self.size = column, paths, names, None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Encoded:
        data, path = bytes_of(self.column[i]), None if self.paths is None else self.paths[i].as_py()
        name = f"{self.names[i]} ({path})" if path else self.names[i]
        if data is not None:
            return Encoded(name, data)
        if path:
            with named(name):
                return Encoded(name, Path(path).read_bytes())
        raise DataError(f"{name}: no image there (null); drop the row, or pass strict=False")


class _Pixels(Sequence):
    """Images as uint8 in lists or bytes.

    Args:
        shape: of image i. axes: their names, or None. order: how they are to be transposed, or None.
        dtypes: of bytes; None: uint8.

    Attributes:
        size: (H, W) of all, if the column says so.
    """

    def __init__(
        self,
        column: pa.ChunkedArray,
        names: list[str],
        shape: Callable[[int], Sequence[int]],
        *,
        axes: Sequence[str] | None = None,
        order: Sequence[int] | None = None,
        dtypes: pa.ChunkedArray | None = None,
        alike: bool = False,
    ):
        self.column, self.names, self.shape, self.axes, self.order = column, names, shape, axes, order
        self.dtypes = dtypes
        self.size = self._upright(np.empty(shape(0), np.uint8)).shape[:2] if alike else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Encoded:
        name, scalar = self.names[i], self.column[i]
        if not scalar.is_valid:
            raise DataError(f"{name}: no image there (null); drop the row, or pass strict=False")
        if str(scalar.type) in FILES:
            with named(name):
                pixels = np.frombuffer(scalar.as_buffer(), np.uint8 if self.dtypes is None else self.dtypes[i].as_py())
        elif scalar.values.null_count:
            raise DataError(f"{name}: {scalar.values.null_count} pixels are null; give each a number")
        else:
            pixels = scalar.values.to_numpy()
        shape = self.shape(i)
        try:
            pixels = pixels.reshape(shape)
        except (TypeError, ValueError):
            raise DataError(
                f"{name}: {len(pixels)} numbers are no image of the shape {shape}; mend its shape"
            ) from None
        return load(self._upright(pixels), name)

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, C], as a view."""
        axes = self.axes and [axis.upper() for axis in self.axes]
        if axes and sorted(axes) == ["C", "H", "W"]:
            return pixels.transpose([axes.index(axis) for axis in "HWC"])
        pixels = pixels.transpose(self.order) if self.order else pixels
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
            return pixels.transpose(1, 2, 0)
        return pixels


def _images(column: pa.ChunkedArray, table: Table, name: str, shape: Any, names: list[str]) -> _Files | _Pixels:
    """The images of a column."""
    type = column.type
    if isinstance(type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=type.storage_type)
        fixed = getattr(type, "shape", None)
        if fixed is not None and None not in fixed:
            axes, order = getattr(type, "dim_names", None), getattr(type, "permutation", None)
            return _Pixels(column, names, lambda i: fixed, axes=axes, order=order, alike=True)
    of = _shapes(table, shape)
    if pa.types.is_struct(column.type):
        fields = {field.name: pc.struct_field(column, field.name) for field in column.type}
        if {"data", "shape"} <= set(fields):
            shapes = fields["shape"].to_pylist()
            return _Pixels(fields["data"], names, shapes.__getitem__, dtypes=fields.get("dtype"))
        if "bytes" in fields and str(fields["bytes"].type) in FILES:
            return _Files(fields["bytes"], fields.get("path"), names)
    elif str(column.type) in FILES and of is None:
        return _Files(column, None, names)
    elif of is not None and (str(column.type) in FILES or hasattr(column.type, "value_type")):
        return _Pixels(column, names, of)
    mend = "; give shape=, their [H, W, C]" if "list" in str(column.type) else ""
    raise DataError(
        "augment_table: images are bytes of files, {bytes, path}, or uint8 tensors or lists, and the column "
        f"{name!r} is {type}{mend}"
    )


def _shapes(table: Table, shape: Any) -> Callable[[int], Sequence[int]] | None:
    """The shape of image i."""
    if shape is None:
        return None
    if isinstance(shape, str):
        return _column(table, shape, "shape").to_pylist().__getitem__
    parts = [_column(table, one, "shape").to_pylist() if isinstance(one, str) else None for one in shape]
    return lambda i: tuple(one if part is None else part[i] for one, part in zip(shape, parts, strict=True))


# --- what goes out ----------------------------------------------------------------------------------------------------
def _nothing(augment: Compose, views: int | None, images: _Files | _Pixels, form: str) -> torch.Tensor:
    """No images, of the type that others of the data set have."""
    asked = asked_for(views, None)
    lead = (0,) if views is None else (views, 0)
    if form != "tensor":
        return torch.empty((*lead, 3, 1, 1), dtype=torch.uint8)
    sizes = ANY_SIZES if images.size is None else [images.size]
    if not augment._recipes.is_staged(augment.transforms):
        reading = Reading(augment, sizes, torch.arange(len(sizes)), 0, decode="whole", asked=asked)
        program = reading.recipe.program
        if program.out_size is not None:
            return torch.empty((*lead, program.out_channels, *program.out_size), dtype=program.out_dtype)
    raise ValueError(
        "augment_table: a table without images says nothing of the size that they would have; take form='struct', or "
        "a pipeline without callables that ends with an op of fixed size, as Resize((H, W)) or RandomCrop"
    )


def _of_images(images: Any, form: str, several: bool, quality: int) -> pa.Array:
    """The column of a call's images, [B, ...] or [V, B, ...] in a tensor or in lists."""
    for one in _flat(images):
        if not isinstance(one, torch.Tensor):
            raise TypeError(f"augment_table: the pipeline must make tensors, got {shown(one)}; leave out what converts")
        if form in ("tensor", "struct") and one.dtype not in (torch.uint8, torch.float16, torch.float32):
            raise ValueError(
                f"augment_table: form={form!r} takes uint8, float16 and float32, got {one.dtype}; end the pipeline "
                "with ToDtype(torch.float16)"
            )
        if form in ("jpeg", "png") and (one.dtype != torch.uint8 or one.shape[-3] not in (1, 3)):
            raise ValueError(
                f"augment_table: form={form!r} takes uint8 of 1 or 3 channels, got {one.dtype} {tuple(one.shape)}; "
                "leave out ToDtype and Normalize"
            )
    if form == "tensor":
        return _tensors(images, several)
    views = list(images) if several else [images]
    by_sample = [view[i] for i in range(len(views[0])) for view in views]
    if form == "struct":
        column = _structs(by_sample)
    else:
        column = pa.array([_file(image, form, quality) for image in by_sample], pa.binary())
    return _grouped(column, len(views)) if several else column


def _flat(images: Any) -> list:
    return [x for one in images for x in _flat(one)] if isinstance(images, list | tuple) else [images]


def _tensors(images: Any, several: bool) -> pa.Array:
    if not isinstance(images, torch.Tensor):
        sizes = sorted({tuple(image.shape[-2:]) for image in _flat(images)})
        raise ValueError(
            f"augment_table: form='tensor' takes images of one size, and these have {sizes[0]} to {sizes[-1]}; end the "
            "pipeline with an op of fixed size, as Resize((H, W)) or RandomCrop, or take form='struct'"
        )
    images = (images.transpose(0, 1) if several else images).contiguous()
    values = pa.array(images.view(-1).numpy())
    shape = tuple(images.shape[1:])
    type = pa.fixed_shape_tensor(values.type, shape, dim_names=list("VCHW"[-len(shape) :]))
    return pa.ExtensionArray.from_storage(type, pa.FixedSizeListArray.from_arrays(values, math.prod(shape)))


def _structs(images: list[torch.Tensor]) -> pa.Array:
    pieces = [image.contiguous().view(-1).view(torch.uint8).numpy() for image in images]
    ends = np.cumsum([0, *map(len, pieces)])
    if ends[-1] > MOST_BYTES:
        raise ValueError(f"augment_table: {len(images)} images are more than 2 GiB; hand over fewer rows at a time")
    buffers = [ends.astype(np.int32), np.concatenate([np.empty(0, np.uint8), *pieces])]
    columns = {
        "data": pa.Array.from_buffers(pa.binary(), len(pieces), [None, *map(pa.py_buffer, buffers)]),
        "shape": pa.array([list(image.shape) for image in images], pa.list_(pa.int32())),
        "dtype": pa.array([str(image.dtype).removeprefix("torch.") for image in images], pa.string()),
    }
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def _file(image: torch.Tensor, form: str, quality: int) -> bytes:
    from PIL import Image

    pixels, file = image.permute(1, 2, 0).contiguous().numpy(), io.BytesIO()
    how = {"quality": quality} if form == "jpeg" else {"compress_level": 1}
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, form, **how)
    return file.getvalue()


def _grouped(values: pa.Array, each: int) -> pa.Array:
    """Lists of so many."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each), pa.int32()), values)


def _of_labels(soft: torch.Tensor | None, several: bool) -> pa.Array:
    """The column of soft labels, [B, K] or [V, B, K]; None of no samples."""
    if soft is None:
        type = pa.list_(pa.float32())
        return pa.array([], pa.list_(type) if several else type)
    soft = soft.transpose(0, 1) if several else soft
    column = _grouped(pa.array(soft.reshape(-1).numpy()), soft.shape[-1])
    return _grouped(column, soft.shape[1]) if several else column


def _replaced(table: Table, made: dict[str, pa.Array]) -> Table:
    """A table with other columns in the place of those of their names."""
    columns, fields = list(table.columns), list(table.schema)
    for name, column in made.items():
        at = table.schema.get_field_index(name)
        columns[at], fields[at] = column, pa.field(name, column.type)
    about = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"huggingface"}
    return type(table).from_arrays(columns, schema=pa.schema(fields, about))
