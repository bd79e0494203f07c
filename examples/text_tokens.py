"""Token augmentation in a loop of one's own: a vocabulary and a classifier from the training texts, no download.

    python examples/text_tokens.py FOLDER --each 50 --epochs 10

FOLDER has train.csv and test.csv with the columns text and label (or category, class). A few texts of each class are
taken; each is deleted from and cropped anew in each epoch, by (seed, epoch, id): the same with any batch size, in any
number of processes, and after a resume.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional as F

from gpuaug import text


def main(folder: str, each: int = 50, epochs: int = 10, batch_size: int = 64) -> float:
    """Train on a few texts of each class; returns the accuracy on the test texts."""
    parts = text.open_parts(folder)
    train, test = parts.train.each(each), parts.test
    tokenizer = text.BPETokenizer.learn(train.texts, vocab_size=4000)
    augment = text.Compose(
        [text.RandomDeletion((0.0, 0.3)), text.SpanCrop((0.6, 1.0), p=0.5)],
        tokenizer=tokenizer,
        seed=0,
    )
    rows, held_out = tokenizer(train.texts), tokenizer(test.texts)
    model = text.TextClassifier(tokenizer.get_vocab(), len(train.classes), special=tokenizer.all_special_ids)
    model.count(**rows)
    steps = -(-len(train) // batch_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    shuffled = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        total = 0.0
        for places in torch.randperm(len(train), generator=shuffled).split(batch_size):
            batch = {name: values[places] for name, values in rows.items()}
            batch = augment(batch, ids=train.ids[places], epoch=epoch)  # on a GPU: where the tokens lie
            loss = F.cross_entropy(model(**batch), train.labels[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(places)
        print(f"epoch {epoch + 1}: loss {total / len(train):.3f}")
    with torch.no_grad():
        right = (model(**held_out).argmax(1) == test.labels).float().mean().item()
    print(f"accuracy {100 * right:.1f}%")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    for name, value in {"each": 50, "epochs": 10, "batch-size": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
