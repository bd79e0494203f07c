"""The small classifier of texts: features as scikit-learn's tf-idf, and a fit as good as its logistic regression."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tokenizers", reason="the extra text is not installed")
features = pytest.importorskip("sklearn.feature_extraction.text", reason="it is the judge")
linear = pytest.importorskip("sklearn.linear_model", reason="it is the judge")

from gpuaug import text  # noqa: E402

SHOPS = ["my card has not come", "the card is late", "where is the card", "card still on its way"]
MONEY = ["send money abroad", "exchange money", "which rates for money", "money and exchange rates"]
TEXTS = SHOPS + MONEY


def model_of(texts: list[str], classes: int) -> tuple[text.BPETokenizer, text.TextClassifier, dict]:
    tokenizer = text.BPETokenizer.learn(texts, 200)
    model = text.TextClassifier(tokenizer.get_vocab(), classes, special=tokenizer.all_special_ids, scale=3.0)
    rows = tokenizer(texts)
    return tokenizer, model.count(**rows), rows


def test_features_are_those_of_sklearn() -> None:
    tokenizer, model, rows = model_of(TEXTS, 2)
    names = {number: token for token, number in tokenizer.get_vocab().items()}

    def parts(row: int) -> list[str]:
        tokens = [names[t] for t in rows["input_ids"][row].tolist() if t > 4]
        return [p for t in tokens for p in [t, *(t[i : i + n] for n in range(2, 6) for i in range(len(t) - n + 1))]]

    judge = features.TfidfVectorizer(analyzer=parts, sublinear_tf=True)
    theirs = torch.from_numpy(judge.fit_transform(range(len(TEXTS))).toarray()).float()
    ours = model.features(**rows) / 3.0
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T)
    assert torch.equal((ours > 0).sum(1), (theirs > 0).sum(1))


def test_it_learns_and_is_kept() -> None:
    tokenizer, model, rows = model_of(TEXTS, 2)
    labels = torch.tensor([0] * 4 + [1] * 4)
    assert torch.equal(model(**rows), torch.zeros(8, 2)), "it starts from nothing"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(**rows), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = tokenizer(["is my card late", "rates of exchange", "card", "money"])
    assert torch.equal(model(**new).argmax(1), torch.tensor([0, 1, 0, 1]))
    judge = linear.LogisticRegression().fit(model.features(**rows).numpy(), labels)
    assert judge.predict(model.features(**new).detach().numpy()).tolist() == [0, 1, 0, 1]
    again = text.TextClassifier(tokenizer.get_vocab(), 2, special=tokenizer.all_special_ids, scale=3.0)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(**new), model(**new))
    padded = {name: torch.nn.functional.pad(values, (0, 3)) for name, values in new.items()}
    torch.testing.assert_close(model(**padded), model(**new))
