"""A data set prepared on many machines by Spark: photos are read, augmented and written to Parquet.

    pip install 'gpuaug[data,parquet]' 'pyspark[sql]'
    python examples/spark.py photos prepared --epoch 3

A draw belongs to the seed, the epoch and the photo's id, so the result is the same with any number of partitions,
executors and machines. Of each photo no more is decoded than its crop reads. Spark has no type for tensors: an image is
a struct of its bytes, its shape and numpy's name of its dtype.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import gpuaug as ga
from gpuaug.data import augment_batches

SCHEMA = "id string, image struct<data: binary, shape: array<int>, dtype: string>"


def main(folder: str, out: str, size: int = 224, epoch: int = 0, partitions: int = 4, batch_size: int = 32) -> int:
    """Prepare a folder of photos for one epoch; returns how many there are."""
    augment = ga.Compose(
        [
            ga.RandomResizedCrop(size),
            ga.RandomHorizontalFlip(),
            ga.TrivialAugmentWide(),  # stays uint8: ToDtype and Normalize are cheap in the training loop
        ],
        seed=0,
    )
    spark = SparkSession.builder.getOrCreate()
    begin = time.perf_counter()
    photos = spark.read.format("binaryFile").option("pathGlobFilter", "*.{jpg,jpeg,png}").load(folder)
    photos = photos.select(
        F.substring_index("path", "/", -1).alias("id"),  # wherever the data set lies
        F.col("content").alias("image"),
    )
    prepare = partial(augment_batches, augment=augment, epoch=epoch, batch_size=batch_size)
    photos.repartition(partitions).mapInArrow(prepare, SCHEMA).write.mode("overwrite").parquet(out)
    seconds, found = time.perf_counter() - begin, spark.read.parquet(out)
    count, cell = found.count(), found.first()["image"]
    image = np.frombuffer(cell["data"], cell["dtype"]).reshape(cell["shape"])
    print(f"{count} images {image.shape} in {seconds:.1f} s")
    spark.stop()
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photos")
    parser.add_argument("out", help="where Parquet files are written to")
    for name, value in {"size": 224, "epoch": 0, "partitions": 4, "batch-size": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
