"""Compose: a pipeline that draws, applies, describes and explains itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial

import torch
from torch import nn

from . import backends, operator
from .backends.engine import Key
from .bare import moved_alone, stand_in
from .barriers import Staged
from .drawn import drawn
from .explain import explain
from .inputs import (
    NO_TRACE,
    as_images,
    check_labels,
    check_out,
    check_pixels,
    children_of,
    is_clip,
    is_fake,
)
from .keys import EPOCHS, Keys, as_ids, as_index, whole
from .kinds import drawn_by_boxes, finished, taken
from .listed import Listed
from .messages import check_keywords, meant, spelt, warn
from .mixing import mixable
from .params import Params, one_view
from .recipe import PLAIN, Asked, Recipe, Recipes, asked_for
from .run import Images, run
from .samples import Batch, is_plain, read, twice
from .stages import Stage, chain_of, streams_of
from .state import Stated
from .undo import undone

CALL = ("labels", "masks", "boxes", "keypoints", "objects", "ids", "epoch", "views", "view", "index")  # of a call
FORMATS = (torch.contiguous_format, torch.channels_last, torch.preserve_format)


class Compose(Listed, Stated, nn.Module):
    """A pipeline of augmentations for a batch, in which each sample has its own draw.

    Args:
        transforms: descriptions from `gpuaug`, applied in order; and callables of any kind, which are called on what
            the ops in front of them made (see `barriers`).
        seed: makes the draws reproducible; None takes one from the operating system, and `repr` shows it.
        backend: "auto", "triton", "kornia" or "cpu". auto takes triton for CUDA tensors, cpu for CPU tensors, and
            kornia where neither can run (it warns once and says why) or where the input requires grad.
        memory_format: of the output: torch.contiguous_format, torch.channels_last, or torch.preserve_format.
        check: look at the pixels of each batch and raise on NaN, or on floats outside of [0, 1]. On a GPU this waits
            for it.
        same_on_batch: all samples of a call get the draws of its first one.

    A draw is a pure function of (seed, epoch, sample id, op, column): with `ids`, a sample gets the same draw in any
    batch, order, worker and on any backend. Without, the pipeline counts samples; rank, DataLoader worker and the
    loader's seed are part of the key.
    """

    @partial(spelt, called="Compose")
    def __init__(
        self,
        transforms: Sequence,
        *,
        seed: int | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.preserve_format,
        check: bool = False,
        same_on_batch: bool = False,
    ):
        super().__init__()
        self.transforms = list(children_of("Compose", transforms))
        self._keys = Keys(int.from_bytes(os.urandom(6), "little") if seed is None else seed)
        self._recipes, self._warned, self._number = Recipes(), set(), operator.register(self)
        self.backend, self.memory_format, self.check = backend, memory_format, check
        self.same_on_batch, self._front = same_on_batch, []

    @classmethod
    def of_one(cls, op) -> Compose:
        """`Compose([op])` with a seed of its own, which knows what others of an equal op have worked out."""
        pipeline = cls([op])
        if not pipeline._recipes.is_staged(pipeline.transforms):
            with suppress(TypeError):  # an op of one's own may have no hash
                pipeline._recipes = recipes_of(op)
        return pipeline

    @property
    def backend(self) -> str:
        """ "auto", "triton", "kornia" or "cpu"."""
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        if backend not in backends.NAMES:
            names = ", ".join(backends.NAMES)
            raise ValueError(f"backend must be one of {names}, got {backend!r}{meant(backend, backends.NAMES)}")
        self._backend = backend
        self._recipes.forget()

    @property
    def memory_format(self) -> torch.memory_format:
        """Of the output."""
        return self._memory_format

    @memory_format.setter
    def memory_format(self, memory_format: torch.memory_format) -> None:
        if memory_format not in FORMATS:
            raise ValueError(
                f"memory_format must be contiguous_format, channels_last or preserve_format, got {memory_format}"
            )
        self._memory_format = memory_format
        self._recipes.forget()

    def forward(
        self,
        *inputs,
        labels=None,
        masks=None,
        boxes=None,
        keypoints=None,
        objects=None,
        ids=None,
        epoch: int | None = None,
        views: int | None = None,
        view: int | None = None,
        index=None,
        **unknown,
    ):
        """Augment a batch, or one sample.

        Args:
            inputs: images, or images and labels, or any nesting of tuples, lists and dicts, as
                torchvision.transforms.v2 takes them: tensors, tv_tensors, Pillow images, HWC arrays. See `samples.read`
                for what is an image, and what is a batch. Images are uint8, float16, bfloat16 or float32, any strides,
                any device: [B, C, H, W] or [C, H, W]; clips [B, T, C, H, W], whose frames share a draw; or a batch as a
                list of images [C, H, W] of any sizes.
            labels: handed through beside the images: [B] or [B, K], or a list. Where the pipeline mixes, they become
                soft: float32 [B, K], with several views [V, B, K].
            masks: [B, H, W], or of instances [B, N, H, W], of any dtype: read nearest. Or a list of [H, W] or
                [N, H, W].
            boxes: floating point, left, top, right, bottom in pixels, [B, N, 4], where rows of NaN are padding, or a
                list of [N, 4]; or tv_tensors.BoundingBoxes of any format.
            keypoints: floating point (x, y) in pixels, [B, N, 2] or [B, N, K, 2], or a list.
            objects: a dict of what else there is one of for each of `boxes`, such as "labels" and "crowd": tensors
                [B, N, ...] beside boxes of one tensor, lists of [N, ...] beside a list. Boxes that are removed, or come
                from other samples, take or bring theirs; the values stay as they are. In a tensor the place of a box
                that is removed stays, the box is NaN.
            ids: the samples' ids in the data set: whole numbers of 64 bits, a tensor [B] or a sequence.
            epoch: overrides `set_epoch`.
            views: how many independent draws each sample gets, views 0 .. V - 1; the result has an axis V in front.
                View 0 is the call without views.
            view: the number of the only one; no axis more.
            index: int64 [B]: take these of the images [N, ...], which are read where they lie.

        Returns:
            What came in, moved, each thing in the form in which it came (see `forms.give_back`): the images, or the
            structure; and behind them what was given by keyword, in the order labels, masks, boxes, keypoints, objects.
            Where not all have one size, as it follows from the inputs' or is drawn, a list of [C, OH, OW] takes the
            place of a tensor. For a drawn size the host must know the draw: on a GPU such a call waits for it.
            Structures of several views come back as a list of them.
        """
        if unknown:
            check_keywords("Compose", unknown, CALL)
        kinds = {"masks": masks, "boxes": boxes, "keypoints": keypoints, "objects": objects}
        if any(value is not None for value in kinds.values()) or not is_plain(inputs):
            asked = asked_for(views, view)
            return apart(self._moved)(inputs, {"labels": labels, **kinds}, asked, ids=ids, epoch=epoch, index=index)
        images = inputs[0]
        if len(inputs) > 1:
            labels = inputs[1] if labels is None else twice(labels)
        if torch.compiler.is_dynamo_compiling() or (type(images) is not torch.Tensor and is_fake(images)):
            return in_a_graph().forward(self, images, labels, ids, epoch, views, view, index)
        try:
            images, recipe = self.take(images, asked_for(views, view), index)
        except Staged:
            recipe = None
        if recipe is None or self._recipes.reforms:
            given = {} if len(inputs) > 1 else {"labels": labels}
            inputs = inputs[:1] if labels is None else inputs
            return self._moved(inputs, given, asked_for(views, view), ids=ids, epoch=epoch, index=index)
        recipe.check_alone()
        if labels is not None:
            check_labels(labels, recipe.single)
            labels = mixable(labels, recipe) if recipe.mixes else labels
        key = self._draw_keys(recipe, images.device, ids, epoch)
        out, plans = run(recipe, images, None, key, host=recipe.draws_size and self._host_key(recipe, ids, epoch))
        if labels is not None and recipe.mixes:
            table = recipe.table(images.device) if plans is None else plans.table
            labels = recipe.mixing.soft(labels, table, recipe)
        return out if labels is None else (out, labels)

    def _moved(
        self,
        inputs: tuple,
        given: dict,
        asked: Asked,
        params: Params | None = None,
        *,
        table: torch.Tensor | None = None,
        ids=None,
        epoch: int | None = None,
        index=None,
    ):
        """The call on a structure, or with masks, boxes or keypoints; or, with a table of params, `apply`."""
        if self._recipes.is_staged(self.transforms):
            return self._staged().call(inputs, given, asked, ids, epoch, index)
        batch = read(inputs, **given)
        if batch.bare:
            return moved_alone(self, batch, asked, params, table, ids, epoch)
        source, recipe = self.take(*taken(batch, asked), index)
        if params is None:
            key = self._draw_keys(recipe, source.device, ids, epoch)
            if recipe.program.by_boxes:
                table = drawn_by_boxes(batch, self._recipes, recipe, key, recipe.table(source.device))
                out = run(recipe, source, table, None)[0]
            else:
                host = recipe.draws_size and self._host_key(recipe, ids, epoch)
                out, plans = run(recipe, source, None, key, host=host)
                table = recipe.table(source.device) if plans is None else plans.table
        else:
            recipe.check(params, table)
            table = recipe.given(table, source.device)
            out = run(recipe, source, table, None)[0]
        if index is not None:
            index = as_index("Compose", index, batch.images, False)
        return finished(self, batch, out, drawn(self._recipes, recipe, table, out, index))

    def views_of(self, images, asked: Asked, *, ids=None, epoch: int | None = None, index=None) -> Images:
        """The call, for the views that are asked for."""
        if torch.compiler.is_dynamo_compiling() or (type(images) is not torch.Tensor and is_fake(images)):
            return in_a_graph().views_of(self, images, asked, ids, epoch, index)
        if self._recipes.is_staged(self.transforms):
            return self._staged().call((images,), {}, asked, ids, epoch, index)
        source, recipe = self.take(images, asked, index)
        recipe.check_alone()
        key = self._draw_keys(recipe, source.device, ids, epoch)
        return run(recipe, source, None, key, host=recipe.draws_size and self._host_key(recipe, ids, epoch))[0]

    @partial(spelt, called="Compose.sample")
    def sample(
        self,
        images,
        *,
        boxes=None,
        ids=None,
        epoch: int | None = None,
        views: int | None = None,
        view: int | None = None,
        index=None,
    ) -> Params:
        """Draw for a batch without touching its pixels; arguments as for the call. An op that draws by boxes needs
        those."""
        asked = asked_for(views, view)
        if self._recipes.is_staged(self.transforms):
            return apart(foreseen().sample)(self._staged(), images, boxes, asked, ids, epoch, index)
        if boxes is None and is_plain((images,)):
            if torch.compiler.is_dynamo_compiling() or (type(images) is not torch.Tensor and is_fake(images)):
                return in_a_graph().sample(self, images, ids, epoch, views, view, index)
            return self.params_of(images, asked, ids=ids, epoch=epoch, index=index)
        batch = read((images,), boxes=boxes)
        images, asked = stand_in(self, batch, asked) if batch.bare else taken(batch, asked)
        return self.params_of(images, asked, ids=ids, epoch=epoch, index=index, batch=batch)

    def params_of(
        self, images, asked: Asked, *, ids=None, epoch: int | None = None, index=None, batch: Batch | None = None
    ) -> Params:
        """`sample`, for the views that are asked for, of images that were read from a batch, if that is given."""
        images, recipe = self.take(images, asked, index)
        key = self._draw_keys(recipe, images.device, ids, epoch)
        table, program = recipe.table(images.device), recipe.program
        if program.by_boxes:
            if batch is None:
                recipe.check_alone()
            table = drawn_by_boxes(batch, self._recipes, recipe, key, table)
        elif recipe.rows.shape[0]:
            table = recipe.engine.plan(recipe.rows, table, key).table
        table = recipe.own(table).view(*recipe.draws, len(program.columns))
        frames = recipe.clip and recipe.clip[0]
        return Params(table, program.columns, program, recipe.sizes, frames)

    @partial(spelt, called="Compose.apply")
    def apply(
        self,
        images,
        params: Params,
        *,
        labels=None,
        masks=None,
        boxes=None,
        keypoints=None,
        objects=None,
        out: torch.Tensor | None = None,
        view: int | None = None,
        index=None,
    ):
        """Apply what was drawn. Pure: the same images and params give the same result.

        Args:
            images: or a structure, as the call's first input.
            params: drawn by this pipeline, or one that draws the same, for as many images of the same size.
            labels, masks, boxes, keypoints, objects, index: as for the call.
            out: a buffer for the result, of its shape, dtype and device, with any strides; it shares no memory with the
                images. For images alone.
            view: of params of several views, the only one to apply.

        Returns:
            As the call.
        """
        table = params.table if view is None else one_view(params, view)
        asked = asked_for(None if table.dim() == 2 else table.shape[0], None)
        given = {"labels": labels, "masks": masks, "boxes": boxes, "keypoints": keypoints, "objects": objects}
        if self._recipes.is_staged(self.transforms):
            return apart(foreseen().apply)(self._staged(), images, params, table, given, asked, out, index)
        if any(value is not None for value in given.values()) or not is_plain((images,)):
            if out is not None:
                raise TypeError("out takes images alone, in tensors; leave it out beside others")
            return apart(self._moved)((images,), given, asked, params, table=table, index=index)
        if torch.compiler.is_dynamo_compiling() or (type(images) is not torch.Tensor and is_fake(images)):
            return in_a_graph().apply(self, images, params, out, view, index)
        source, recipe = self.take(images, asked, index)
        if self._recipes.reforms and out is None:
            return self._moved((images,), {}, asked, params, table=table, index=index)
        recipe.check(params, table)
        return self.replay(source, recipe, table, out)

    def replay(
        self, images: torch.Tensor, recipe: Recipe, table: torch.Tensor, out: torch.Tensor | None = None
    ) -> Images:
        """`apply`, where images and recipe are those of `take`, and the table is one for them."""
        program = recipe.program
        recipe.check_alone()
        if out is not None:
            if recipe.out_sizes is not None:
                raise ValueError("out takes images of one size, and here each has its own; leave it out")
            check_out(out, (*recipe.lead, program.out_channels, *program.out_size), program.out_dtype, images)
        return run(recipe, images, recipe.given(table, images.device), None, out)[0]

    def inverse(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Undo the geometry that was applied by params: predictions back on their images.

        Args:
            images: [B, C, OH, OW] of the sizes that `apply` gives, of any channels: the outputs, or maps of scores.

        Returns:
            [B, C, H, W] of the sizes that came in, read bilinearly; 0 where nothing is left of a pixel. Colours stay as
            they are.

        Raises:
            ValueError: geometry that is no projective map, or images of several sizes.
        """
        return undone(images, params)

    def explain(self, images, *, verbose: bool = False) -> str:
        """What these images would go through: each op with the sizes behind it, how it reads, and what it draws; how
        often an image is gone over, and why; bytes, launches, the backend. `verbose` adds the slots of the program."""
        if self._recipes.is_staged(self.transforms):
            return foreseen().explain(self._staged(), images, verbose)
        if not is_plain((images,)):
            images = taken(read((images,)), PLAIN)[0]
        return explain(self.take(images)[1], images, self.backend, verbose)

    def lower(self, build) -> None:
        """As part of another pipeline: its ops in a row; seed, backend and format are the outer one's."""
        for index, transform in enumerate(self.transforms):
            with build.op(index, transform):
                transform.lower(build)

    def _staged(self):
        """The chain of passes that a pipeline with callables is."""
        return chain_of(self)

    def stage(self, items: Sequence) -> Pass:
        """One of its passes, of items of `stages`."""
        return Pass(self, items)

    def _behind(self, front: list) -> None:
        """Draw as behind these ops."""
        self._front, self._recipes = front, Recipes(sum(map(streams_of, front)))

    def take(self, images, asked: Asked = PLAIN, index=None) -> tuple[torch.Tensor, Recipe]:
        """A plain tensor from whose first element the recipe's rows count, and the recipe."""
        if torch.jit.is_tracing():
            raise RuntimeError(NO_TRACE)
        if type(images) is not torch.Tensor or images.is_neg():
            if type(images) is list:
                return self._take_list(images, asked, index)
            single = is_clip(images)
            images = as_images(images)
            if single:
                images, asked = images[None], asked._replace(single=True)
        if index is not None:
            return self._take_indexed(images, asked, index)
        recipe = self._recipes.of(self.transforms, images, self._backend, self._memory_format, asked)
        if recipe.copies:
            images = images.contiguous()
            recipe = self.recipe(images, asked)
        if self.check:
            check_pixels(images)
        return images, recipe

    def _take_list(self, images: list, asked: Asked, index) -> tuple[torch.Tensor, Recipe]:
        if index is not None:
            raise TypeError("index takes images of one size in one tensor [N, C, H, W], got a list")
        own = torch.Tensor
        images = [as_images(x) if isinstance(x, own) and (type(x) is not own or x.is_neg()) else x for x in images]
        source, recipe = self._recipes.of_list(self.transforms, images, self._backend, self._memory_format, asked)
        if self.check:
            for image in images:
                check_pixels(image)
        return source, recipe

    def _take_indexed(self, images: torch.Tensor, asked: Asked, index) -> tuple[torch.Tensor, Recipe]:
        if images.dim() < 4 or asked.single:
            raise ValueError(f"index takes images of [N, C, H, W] or [N, T, C, H, W], got {tuple(images.shape)}")
        index = as_index("Compose", index, images, self.check)
        recipe = self.recipe(images, asked._replace(count=len(index)))
        if recipe.copies:
            raise ValueError(f"index reads images where they lie, and their strides {images.stride()} are too large")
        if self.check:
            check_pixels(images[index])
        return images, recipe.gathering(index, images.stride(0))

    def recipe(self, images: torch.Tensor, asked: Asked = PLAIN) -> Recipe:
        """What is needed to run this pipeline on such images."""
        return self._recipes.of(self.transforms, images, self._backend, self._memory_format, asked)

    def _draw_keys(self, recipe: Recipe, device: torch.device, ids, epoch: int | None) -> Key:
        """What the samples' draws are keyed by, on the device."""
        word = self._keys.epoch_on(device) if epoch is None else whole("epoch", epoch, EPOCHS)
        b = recipe.samples
        if ids is None:
            numbers = same(self._keys.numbers(device, b)) if self.same_on_batch else None
            return Key(numbers, word, self._keys.of_counted(device))
        given, ids = ids, as_ids(ids, device, b)
        if epoch is None and self._keys.epoch is None:
            self._warn_once("ids without an epoch repeat the same draws in each epoch; pass epoch= or call set_epoch()")
        if self.same_on_batch:
            ids = same(ids)
        elif b > 1 and ids.device.type == "cpu" and not isinstance(given, range) and len(set(ids.tolist())) < b:
            self._warn_once("ids repeat within a batch: equal ids get equal draws")
        return Key(ids, word, self._keys.of_ids(device))

    def _host_key(self, recipe: Recipe, ids, epoch: int | None) -> Key | None:
        """As `_draw_keys`, on the host, where that knows the ids."""
        known = ids is not None and not (isinstance(ids, torch.Tensor) and ids.device.type != "cpu")
        return self._draw_keys(recipe, torch.device("cpu"), ids, epoch) if known else None

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message)


class Pass(Stage, Compose):
    """Ops of a pipeline between two callables."""


@lru_cache(maxsize=256)
def recipes_of(op) -> Recipes:
    """What calls of an op by itself have worked out."""
    return Recipes()


def same(ids: torch.Tensor) -> torch.Tensor:
    """The first of some ids in place of all."""
    return ids[:1].expand(len(ids)).contiguous()


def apart(function):
    """The function, which torch.compile leaves out of the graphs that it traces."""
    return torch._dynamo.disable(function) if torch.compiler.is_dynamo_compiling() else function


def foreseen():
    """The module that draws for pipelines with callables before these have run."""
    from . import foreseen as module

    return module


def in_a_graph():
    """The module that stands for the methods where torch.compile or torch.export traces them."""
    from . import compiling

    return compiling
