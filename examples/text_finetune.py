"""Fine-tune a classifier of texts on a few of each class, look what it makes of others, and hand it on.

    python examples/text_finetune.py FOLDER --each 50 --text "where is my card"

FOLDER has train.csv and test.csv with the columns text and label (or category, class). The same on the command line:

    gpuaug finetune --data FOLDER
    gpuaug predict 1 --text "where is my card"
    gpuaug export 1 --format onnx

With --model hf:NAME_OR_FOLDER an encoder of Hugging Face's is fine-tuned (extra hf); without, the small model that
needs no download.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gpuaug as ga
from gpuaug.data import Parts
from gpuaug.finetune import Config, finetune
from gpuaug.finetune.text import source_of


def main(folder: str, each: int, epochs: int, model: str, augment: str, text: str, out: str) -> float:
    """Fine-tune on a few texts of each class; returns the accuracy on the test texts."""
    parts = ga.text.open_parts(folder)
    few = Parts(Path(folder).name, source_of(parts.train.each(each)), None, source_of(parts.test))
    config = Config(task="text", model=model, augment=augment, epochs=epochs, out=Path(out), quiet=True)
    done = finetune(config, parts=few)
    print(f"accuracy {100 * done.after:.1f}% of {len(parts.test)} test texts; {done.run}/report.html shows the rest")

    classifier = ga.load(done.run)  # with its tokenizer, on a GPU if there is one
    for answer in classifier.predict([text, "a moving film", "dull, and far too long"], top=2):
        print(f"{answer.text}: {', '.join(f'{name} {share:.0%}' for name, share in answer.answers)}")
    print(classifier.export(done.run / "model.pt2").told())
    return done.after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--model", default="subwords")
    parser.add_argument("--augment", default="text_light")
    parser.add_argument("--text", default="where is my card")
    parser.add_argument("--out", default="runs")
    main(**vars(parser.parse_args()))
