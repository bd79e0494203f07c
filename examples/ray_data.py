"""A data set prepared on many machines by Ray Data: photos are read, augmented and written to Parquet.

    pip install 'gpuaug[data,parquet]' 'ray[data]'
    python examples/ray_data.py photos prepared --epoch 3

A draw belongs to the seed, the epoch and the photo's id, so the result is the same with any number of blocks, workers
and machines. Of each photo no more is decoded than its crop reads. Images become tensor columns, which Ray hands out as
torch tensors.
"""

from __future__ import annotations

import argparse
import os
import time

import pyarrow as pa
import ray

import gpuaug as ga
from gpuaug.data import augment_table


def prepared(table: pa.Table, augment: ga.Compose, epoch: int) -> pa.Table:
    """Some photos: columns bytes and path become image [3, H, W], uint8, and id."""
    ids = [os.path.basename(path) for path in table["path"].to_pylist()]  # wherever the data set lies
    table = pa.table({"id": ids, "image": table["bytes"]})
    return augment_table(table, augment, epoch=epoch)


def main(folder: str, out: str, size: int = 224, epoch: int = 0, blocks: int = 4, batch_size: int = 32) -> int:
    """Prepare a folder of photos for one epoch; returns how many there are."""
    augment = ga.Compose(
        [
            ga.RandomResizedCrop(size),
            ga.RandomHorizontalFlip(),
            ga.TrivialAugmentWide(),  # stays uint8: ToDtype and Normalize are cheap in the training loop
        ],
        seed=0,
    )
    begin = time.perf_counter()
    photos = ray.data.read_binary_files(folder, include_paths=True, file_extensions=["jpg", "jpeg", "png"])
    photos = photos.repartition(blocks).map_batches(
        prepared,
        fn_kwargs={"augment": augment, "epoch": epoch},
        batch_format="pyarrow",
        batch_size=batch_size,
    )
    photos.write_parquet(out)
    seconds, count, shape = time.perf_counter() - begin, 0, ()
    for batch in ray.data.read_parquet(out, columns=["image"]).iter_torch_batches(batch_size=batch_size):
        count, shape = count + len(batch["image"]), tuple(batch["image"].shape[1:])
    print(f"{count} images {shape} in {seconds:.1f} s")
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photos")
    parser.add_argument("out", help="where Parquet files are written to")
    for name, value in {"size": 224, "epoch": 0, "blocks": 4, "batch-size": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
