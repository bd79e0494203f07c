"""The data that a segmenter is tested on: images with masks, or with polygons, whose classes go by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpuaug.data import DataError, Source
from gpuaug.data.annotated_parts import held_annotated, open_annotated
from gpuaug.data.sources import ids_of
from gpuaug.messages import meant

from .config import Config
from .semantic import FOREGROUND, Meaning, Semantic, check_polygons, with_meaning
from .task import with_validation
from .testing import PARTS, Data, of_parts


def open_part(data: str | Path | Source, part: str | None = None, config: Config | None = None) -> Data:
    """As :func:`gpuaug.finetune.testing.opened`, of images with masks or polygons."""
    if part not in (None, "all", *PARTS):
        raise ValueError(f"part must be one of {', '.join(PARTS)}, all; got {part!r}{meant(part, (*PARTS, 'all'))}")
    if isinstance(data, Source):
        if part not in (None, "all"):
            raise ValueError(f"part={part!r}: a Source has no parts; hand over the one that is meant, and leave it out")
        return Data("images", [("all", data)], None, [])
    path = Path(data)
    there, name = held_annotated(path), path.resolve().name
    wanted = part or ("test" if "train" in there else "all")
    if wanted == "all":
        told = f"all images: the folders {', '.join(there)}" if "train" in there else "all images"
        return Data(name, list(there.items()), path, [told])
    if wanted in there:
        return Data(name, [(wanted, there[wanted])], path, [f"the {wanted} part"])
    parts, _ = with_validation(config or Config(), open_annotated(path, 0.0))
    return of_parts(parts, wanted, "which finetune sets aside: the same images each time")


def matched(
    data: Data, classes: Sequence[str], meaning: str | None, ignore_unknown: bool = False
) -> tuple[Source, list[str]]:
    """(all images, whose masks are of ``classes``, what is to be said of them).

    ``meaning``: of the run's masks, "objects", "classes" or "polygons"; see :class:`gpuaug.finetune.semantic.Meaning`.
    Polygons are of the classes of their names; numbers mean what they did in the run.

    Raises:
        DataError: no masks; polygons of unknown classes; numbers above the classes, where the mask is read.
    """
    found, told = [], []
    for _, source in data.pieces:
        if source.targets is None:
            raise DataError(f"{data.name}: its images have no masks; gpuaug predict makes some")
        if isinstance(source.targets, Semantic):
            if tuple(source.classes) != tuple(classes):
                own = _listed(source.classes)
                raise DataError(f"{data.name}: its masks are of {own}, and the model knows {_listed(classes)}")
            found.append(source)
            continue
        if not source.classes:
            found.append(with_meaning(source, Meaning(tuple(classes), objects=meaning == "objects")))
            continue
        check_polygons(source)
        names = (*source.classes,)
        unknown = [name for name in names if name not in classes[1:]]
        if tuple(classes) == FOREGROUND and meaning == "objects":
            places = dict.fromkeys(names, 1)
            told.append("each polygon is foreground, as each object was in the run")
        elif unknown and not ignore_unknown:
            raise DataError(
                f"{data.name}: the model does not know the class{'es' * (len(unknown) > 1)} {_listed(unknown)}"
                f"{meant(unknown[0], classes)}; it knows {_listed(classes[1:])}. Rename what is meant, or count such "
                "polygons as background: --ignore-unknown"
            )
        else:
            places = {name: list(classes).index(name) if name in classes[1:] else 0 for name in names}
            if unknown:
                told.append(f"background: polygons of classes that the model does not know, {_listed(unknown)}")
        numbers = tuple(places[name] for name in names)
        found.append(with_meaning(source, Meaning(tuple(classes), painted=True, numbers=numbers)))
    return (found[0] if len(found) == 1 else _joined(found)), list(dict.fromkeys(told))


class _Several(Sequence):
    """Targets of several sources, one behind another."""

    def __init__(self, targets: Sequence[Sequence]):
        self.places = [(one, i) for one in targets for i in range(len(one))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int):
        one, place = self.places[i]
        return one[place]


def _joined(sources: Sequence[Source]) -> Source:
    """All images of all, under hashes of their whole paths, as they may be called the same in each part."""
    items = tuple(one for source in sources for one in source.items)
    ids = ids_of([Path(one).as_posix() for one in items], "the parts")
    return replace(sources[0], items=items, ids=ids, targets=_Several([source.targets for source in sources]))


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")
