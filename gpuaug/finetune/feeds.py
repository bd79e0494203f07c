"""The feeds of a run's three parts: of images, or of features that the model makes of every image once.

What both take: (config, recipe, parts, input, augment, accelerator, screen).
"""

from __future__ import annotations

from dataclasses import replace

import gpuaug as ga
from gpuaug.data import Loader, Source

from . import feed, models
from .feed import Features, Feed
from .predicting import predict


def image_feeds(
    config, recipe, parts, input, augment, accelerator, screen, shuffle=True, kind=Feed
) -> tuple[list[Feed | None], list[str]]:
    """Feeds of images, of a ``kind``, and what was decided for them."""
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    train = feed.balanced(parts.train, config.seed) if config.balance == "sampling" else parts.train
    each = len(train) // world
    drops = shuffle and each > recipe.batch_size and bool(each % recipe.batch_size)
    function = None if isinstance(augment, ga.Compose) else augment
    shared = {
        "device": device, "seed": config.seed, "workers": config.workers, "strict": world > 1, "rank": rank,
        "world": world, "cache_size": max(512, input.resize or input.size),
    }  # fmt: skip

    def open_feed(name: str, source: Source, pipeline, function=None, **keywords) -> Feed:
        resident = feed.fits(source, config, device)
        cache = None if resident else config.cache
        keywords |= {"resident": resident, "cache": cache, **shared}
        loader = Loader(source, recipe.batch_size, None if function else pipeline, **keywords)
        if resident and source.images is None:
            screen.say(f"reading  {len(source):,} {name} images into memory")
            loader.keep()
        return kind(loader, input.size, function)

    feeds = [open_feed("train", train, augment, function, shuffle=shuffle, drop_last=drops)]
    for name, part in (("val", parts.val), ("test", parts.test)):
        feeds.append(open_feed(name, part, input.plain()) if part else None)
    told = []
    if len(train) > len(parts.train):
        told.append(f"{len(train):,} images an epoch: those of small classes come several times, each time drawn anew")
    if drops:
        told.append(f"a last batch of {each % recipe.batch_size} is left out each epoch; the order decides whose")
    if feeds[0].loader.resident:
        told.append(f"training images resident in memory, {feed.nbytes(train) / 1e6:,.0f} MB")
    else:
        where = f", and kept in {config.cache}" if config.cache else " as far as the pipeline reads them"
        told.append(f"training images streamed: {config.workers} threads decode them{where}")
    return feeds, told


def probe_feeds(
    model, config, recipe, parts, input, augment, accelerator, screen
) -> tuple[list[Features | None], list[str]]:
    """Feeds of features, which the model makes of every image once."""
    if config.balance == "sampling":
        feed.check_balance(parts.train)
    once = replace(config, balance="no")
    feeds, _ = image_feeds(once, recipe, parts, input, augment, accelerator, screen, shuffle=False)
    order = {"seed": config.seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    device, found = accelerator.device, []
    for name, images in zip(("train", "val", "test"), feeds, strict=True):
        if images is None:
            found.append(None)
            continue
        screen.say(f"features {len(images.loader.source):,} {name} images go through the model once")
        with models.backbone(model) as features:
            made = predict(model, images, accelerator, "none" if name == "train" else config.tta, features)
        ids, labels, x = made.ids, made.labels, made.outputs
        if name == "train" and config.balance == "sampling":
            many = feed.balanced(Source(range(len(ids)), ids, labels, parts.train.classes), config.seed)
            ids, labels, x = many.ids, many.labels, x[list(many.items)]
        inputs = [value.to(device) for value in (x, labels, ids)]
        found.append(Features(*inputs, recipe.batch_size, shuffle=name == "train", **order))
    return found, [f"features of {found[0].x.shape[1]} numbers, computed once and kept in memory; images as they are"]
