"""The feeds of a run's three parts: of images, or of features that the model makes of every image once.

What both take: (config, recipe, parts, input, augment, accelerator, screen).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import PathLike

import gpuaug as ga
from gpuaug.data import DataError, Loader, Parts, Source, header

from . import features, feed, models
from .config import Config
from .feed import Features, Feed
from .predicting import predict

HEADERS, NAMED = 20_000, 8  # files of a part that are looked at before the run, and of those how many are named


def image_feeds(
    config, recipe, parts, input, augment, accelerator, screen, shuffle=True, kind=None, what="images"
) -> tuple[list[Feed | None], list[str]]:
    """Feeds of images, or ``what`` they are, of a ``kind`` of Feed, and what was decided for them."""
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    train = feed.balanced(parts.train, config.seed) if config.balance == "sampling" else parts.train
    each = len(train) // world
    drops = shuffle and each > recipe.batch_size and bool(each % recipe.batch_size)
    function = None if isinstance(augment, ga.Compose) else augment
    shared = {
        "device": device, "seed": config.seed, "workers": config.workers, "strict": world > 1, "rank": rank,
        "world": world, "cache_size": max(512, input.resize or input.size), "max_bad": config.max_bad,
    }  # fmt: skip

    bad: list[str] = []

    def open_feed(name: str, source: Source, pipeline, function=None, **keywords) -> Feed:
        resident = feed.fits(source, config, device) and source.clips is None
        cache = None if resident else config.cache
        keywords |= {"resident": resident, "cache": cache, **shared}
        loader = Loader(source, recipe.batch_size, None if function else pipeline, **keywords)
        if resident and source.images is None:
            screen.say(f"reading  {len(source):,} {name} images into memory")
            found = list(loader.keep().bad)
            check_bad(name, found, len(source), config.max_bad)
            bad.extend(found)
        return (kind or Feed)(loader, input.size, function)

    feeds = [open_feed("train", train, augment, function, shuffle=shuffle, drop_last=drops)]
    for name, part in (("val", parts.val), ("test", parts.test)):
        feeds.append(open_feed(name, part, input.plain()) if part else None)
    told = left_out(bad)
    if len(train) > len(parts.train):
        told.append(f"{len(train):,} {what} an epoch: those of small classes come several times, each time drawn anew")
    if drops:
        told.append(f"a last batch of {each % recipe.batch_size} is left out each epoch, other {what} each time")
    if feeds[0].loader.resident:
        told.append(f"training {what} resident in memory, {feed.nbytes(train) / 1e6:,.1f} MB")
    else:
        where = f", and kept in {config.cache}" if config.cache else " as far as the pipeline reads them"
        where = where if what == "images" else ", for each epoch others of their frames"
        told.append(f"training {what} streamed: {config.workers} threads decode them{where}")
    return feeds, told


def readable(parts: Parts, config: Config) -> tuple[Parts, list[str]]:
    """(the parts without the image files whose beginning cannot be read, in words what was left out).

    Of a part with more than HEADERS files so many are looked at, spread over it; the loader leaves out the others as
    far as it may. Raises DataError where more than ``max_bad`` cannot be read.
    """
    bad = []
    with ThreadPoolExecutor(max(config.workers, 1)) as threads:
        for name in ("train", "val", "test"):
            part = getattr(parts, name)
            if part is None or part.images is not None:
                continue
            looked = [i for i in range(0, len(part), -(-len(part) // HEADERS)) if isinstance(part.items[i], PathLike)]
            words = dict(zip(looked, threads.map(_unreadable, [part.items[i] for i in looked]), strict=True))
            found = {i: said for i, said in words.items() if said}
            if found:
                check_bad(name, list(found.values()), len(looked), config.max_bad)
                parts = replace(parts, **{name: part.subset([i for i in range(len(part)) if i not in found])})
                bad += found.values()
    return parts, left_out(bad)


def _unreadable(item: PathLike) -> str:
    try:
        header(item)
    except DataError as error:
        return str(error)
    return ""


def check_bad(part: str, bad: Sequence[str], images: int, most: float, what: str = "images") -> None:
    """Raises DataError where more than ``most`` of a part's images, or ``what`` they are, cannot be read."""
    if len(bad) > most * images:
        raise DataError(
            f"{len(bad)} of {images:,} {part} {what} cannot be read, more than max_bad={most:g} allows; mend or remove "
            f"them, or raise it: {_named(bad)}"
        )


def left_out(bad: Sequence[str], what: str = "image") -> list[str]:
    """In words, if there are any."""
    return [f"{len(bad)} unreadable {what}{'s' * (len(bad) > 1)} left out: {_named(bad)}"] if bad else []


def _named(bad: Sequence[str]) -> str:
    return "; ".join(bad[:NAMED]) + ("; ..." if len(bad) > NAMED else "")


def probe_feeds(
    model, config, recipe, parts, input, augment, accelerator, screen, kind=None, what="images"
) -> tuple[list[Features | None], list[str]]:
    """Feeds of features, which the model makes of every image once; ``kind``, ``what``: see :func:`image_feeds`."""
    features.parse(config.feature_augment)  # before the model looks at every image
    if config.balance == "sampling":
        feed.check_balance(parts.train)
    once = replace(config, balance="no")
    shared = (recipe, parts, input, augment, accelerator, screen)
    feeds, told = image_feeds(once, *shared, shuffle=False, kind=kind, what=what)
    order = {"seed": config.seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    device, found = accelerator.device, []
    for name, images in zip(("train", "val", "test"), feeds, strict=True):
        if images is None:
            found.append(None)
            continue
        screen.say(f"features {len(images.loader.source):,} {name} {what} go through the model once")
        with models.backbone(model) as made_of:
            made = predict(model, images, accelerator, "none" if name == "train" else config.tta, made_of)
        ids, labels, x = made.ids, made.labels, made.outputs
        if name == "train" and config.balance == "sampling":
            many = feed.balanced(Source(range(len(ids)), ids, labels, parts.train.classes), config.seed)
            ids, labels, x = many.ids, many.labels, x[list(many.items)]
        inputs = [value.to(device) for value in (x, labels, ids)]
        changed = None
        if name == "train":
            changed = features.opened(config.feature_augment, *inputs[:2], parts.train.classes, config.seed)
        found.append(Features(*inputs, recipe.batch_size, changed, shuffle=name == "train", **order))
    told = [words for words in told if "unreadable" in words]
    numbers = found[0].x[0].numel()
    told.append(f"features of {numbers} numbers, computed once and kept in memory; {what} as they are")
    return found, told if found[0].augment is None else [*told, f"training features {found[0].augment.words}"]
