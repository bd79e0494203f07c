"""Sources of what is in memory or in other libraries' hands: arrays, and map-style datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import DataError
from .items import Encoded, Made
from .sources import Some, Source, checked, ids_of, labels_of

IMAGES = ("images", "image", "x", "data", "arr_0")
LABELS = ("labels", "label", "y", "targets", "target", "arr_1")


class Pixels(Sequence):
    """Images [H, W, C] of an array of any layout."""

    def __init__(self, array: np.ndarray, layout: str) -> None:
        self.array, self.layout = array, layout

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> np.ndarray:
        one = np.asarray(self.array[i])
        return one.transpose(1, 2, 0) if self.layout == "NCHW" else one


def arrays(
    images: str | Path | np.ndarray | torch.Tensor,
    labels: Any = None,
    *,
    ids: Any = None,
    layout: str | None = None,
    split: str | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """uint8 images of one size in an array, an .npy file, which is mapped, or an .npz file.

    Args:
        images: [N, H, W], [N, H, W, C] or [N, C, H, W] with C in 1, 3, 4; or a file. In an .npz the images are
            ``images``, ``x`` or the first array, the labels ``labels``, ``y`` or the second; with ``split="train"``
            ``train_images``, or ``x_train``, and so on.
        labels: [N] or [N, 1] of whole numbers or names, or [N, K] of 0 and 1; None: the file's, or none.
        ids: whole numbers [N]; None: 0 .. N - 1.
        layout: ``"NHWC"`` or ``"NCHW"``, where the shape leaves both open.
    """
    name = str(images) if isinstance(images, (str, Path)) else "an array"
    if isinstance(images, (str, Path)):
        images, labels = _of_file(Path(images), labels, split)
    if isinstance(images, torch.Tensor):
        images = images.cpu().numpy()
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise DataError(f"{name}: {images.dtype} {images.shape}; images are uint8 [N, H, W] or with channels")
    pixels = Pixels(images, _layout(images.shape, layout, name))
    found, classes = _of_labels(labels, name, classes)
    numbers = range(len(images)) if ids is None else [int(one) for one in ids]
    return Source(pixels, checked(list(numbers), [f"image {i}" for i in range(len(numbers))], name), found, classes)


def _of_file(path: Path, labels: Any, split: str | None) -> tuple[np.ndarray, Any]:
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, labels
        with loaded:
            names = loaded.files
            pairs = [(f"{split}_{n}", f"{n}_{split}") for n in IMAGES] if split else [(n,) for n in IMAGES]
            image = next((n for several in pairs for n in several if n in names), None)
            if image is None:
                raise DataError(f"{path}: no images among {', '.join(names)}; call them images, or give the array")
            pairs = [(f"{split}_{n}", f"{n}_{split}") for n in LABELS] if split else [(n,) for n in LABELS]
            label = next((n for several in pairs for n in several if n in names), None)
            return loaded[image], loaded[label] if labels is None and label else labels
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not an array file ({' '.join(str(error).split())}); save it by numpy.savez") from None


def _layout(shape: tuple[int, ...], given: str | None, name: str) -> str:
    if given is not None and given not in ("NHWC", "NCHW"):
        raise ValueError(f'layout is "NHWC" or "NCHW", got {given!r}')
    if len(shape) == 3:
        return "NHW"
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if given is None and first == last:
        what = "both axes could be channels" if first else "no axis has 1, 3 or 4 channels"
        raise DataError(f'{name}: of shape {shape}, {what}; say layout="NHWC" or layout="NCHW"')
    return given or ("NCHW" if first else "NHWC")


def _of_labels(labels: Any, name: str, classes: Sequence[str]) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    if labels is None or labels is False:
        return None, tuple(classes)
    labels = labels.cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        names = tuple(classes) or tuple(map(str, range(labels.shape[1])))
        return torch.from_numpy(labels.astype(np.float32)), names
    found, names = labels_of(labels.reshape(-1).tolist(), name, classes)
    return found, names


def dataset(
    data: Any, *, labels: Any = None, image: Any = None, label: Any = None, classes: Sequence[str] = ()
) -> Source:
    """Any map-style Dataset: torchvision's, Hugging Face's, one of your own, or a ``torch.utils.data.Subset`` of it.

    What it gives for an image is a Pillow image, a uint8 tensor [C, H, W] or array [H, W, C], a path or a file's bytes:
    no transform that makes floats belongs in it. An ImageFolder without a transform is read by its files.

    Args:
        labels: one a sample; None: its ``targets`` or ``labels``, or the column ``label``; False: none.
        image, label: the place of the image and its label in a sample: a number for tuples, a key for dicts.

    Returns:
        Ids are the places in the data set, those of the whole one for a Subset; for files hashes of their paths.

    Raises:
        DataError: labels are wanted, and the data set tells none without decoding every image.
    """
    if hasattr(data, "indices") and hasattr(data, "dataset"):
        places = [int(i) for i in data.indices]
        whole = dataset(data.dataset, labels=labels, image=image, label=label, classes=classes)
        return whole.subset(places)
    n = len(data)
    if hasattr(data, "column_names") and hasattr(data, "cast_column"):
        return _of_hugging_face(data, labels, image, label, classes)
    names = classes or tuple(getattr(data, "classes", ()) or ())
    if labels is None:
        labels = next((getattr(data, key) for key in ("targets", "labels", "_labels") if _is_list(data, key, n)), None)
        if labels is None:
            raise DataError(
                f"{type(data).__name__} tells no labels (targets); give them: labels=[...], or labels=False"
            )
    files = _files_of(data)
    found, names = _of_labels(labels, type(data).__name__, names)
    if files is not None:
        return Source(tuple(Path(file) for file, _ in files[1]), ids_of(files[0], data.root), found, names)
    items = Some(_Samples(data, image), tuple(range(n)))
    return Source(items, torch.arange(n), found, names)


def _is_list(data: Any, key: str, n: int) -> bool:
    value = getattr(data, key, None)
    return value is not None and not callable(value) and hasattr(value, "__len__") and len(value) == n


def _files_of(data: Any) -> tuple[list[str], list] | None:
    """(paths below the root, samples) of a torchvision ImageFolder that does nothing else than open them."""
    samples = getattr(data, "samples", None)
    plain = all(getattr(data, key, None) is None for key in ("transform", "target_transform", "transforms"))
    if not plain or not samples or getattr(getattr(data, "loader", None), "__name__", "") != "default_loader":
        return None
    root = Path(data.root)
    return [Path(file).relative_to(root).as_posix() for file, _ in samples], samples


class _Samples(Sequence):
    """The images of a Dataset, each asked for when it is read."""

    def __init__(self, data: Any, image: Any) -> None:
        self.data, self.image = data, image

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> Made:
        return Made(self._of, i, f"{type(self.data).__name__}[{i}]")

    def _of(self, i: int) -> Any:
        sample = self.data[i]
        if self.image is not None:
            return sample[self.image]
        if isinstance(sample, Mapping):
            return next(sample[key] for key in ("image", "img", "pixel_values", "images") if key in sample)
        return sample[0] if isinstance(sample, (tuple, list)) else sample


def _of_hugging_face(data: Any, labels: Any, image: Any, label: Any, classes: Sequence[str]) -> Source:
    """A datasets.Dataset, whose images are read as bytes and decoded here."""
    columns = data.column_names
    image = image or next((name for name in ("image", "img", "images") if name in columns), None)
    label = label or next((name for name in ("label", "labels", "fine_label", "target") if name in columns), None)
    if image not in columns:
        raise DataError(f"no column of images among {', '.join(columns)}; name it: image=...")
    if labels is None and label is not None:
        labels = list(data.with_format(None)[label])
        classes = classes or tuple(getattr(data.features[label], "names", ()) or ())
    found, names = _of_labels(labels, "the data set", classes)
    if type(data.features[image]).__name__ == "Image":
        data = data.cast_column(image, type(data.features[image])(decode=False))
    data = data.with_format(None).select_columns([image])
    numbers = torch.arange(len(data))
    return Source(Some(_Rows(data, image), tuple(range(len(data)))), numbers, found, names)


class _Rows(Sequence):
    def __init__(self, data: Any, image: str) -> None:
        self.data, self.image = data, image

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> Made:
        return Made(self._of, i, f"row {i}")

    def _of(self, i: int) -> Any:
        value = self.data[i][self.image]
        if isinstance(value, Mapping):
            return (
                Encoded(str(value.get("path") or f"row {i}"), value["bytes"]) if value.get("bytes") else value["path"]
            )
        return value
