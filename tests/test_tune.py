"""A search of a run's options: what it searches, that it never looks at the test part, that it ends bad trials and goes
on where it was stopped; and its page."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

for needed in ("accelerate", "matplotlib", "optuna", "sklearn", "timm", "torchvision", "tqdm"):
    pytest.importorskip(needed, reason=f"the extras finetune and tune are not installed: {needed}")

import finetuning  # noqa: E402
import finetuning_text  # noqa: E402

from gpuaug.cli import main  # noqa: E402
from gpuaug.data import Parts  # noqa: E402
from gpuaug.finetune import Config, Interrupted, Run, space, study, trials, tuning  # noqa: E402
from gpuaug.finetune.searched import Option, listed, parse  # noqa: E402
from gpuaug.finetune.spelling import command_of  # noqa: E402
from gpuaug.finetune.tuning import tune  # noqa: E402


def tiny(num_classes: int) -> nn.Module:
    """A model that learns a digit or two in a second."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, num_classes))


BASE = {"model": "test_tune:tiny", "size": 16, "batch_size": 25, "device": "cpu", "workers": 0, "quiet": True}
BASE |= {"robustness": 0, "epochs": 2, "schedule": "constant", "optimizer": "adamw", "augment": "none", "clip": 1.0}
RATES = ["lr=1e-4:1e-1"]
SEED = 2  # by which the first trial has the size that can be


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    for name in ("before", "after"):
        monkeypatch.setattr(f"gpuaug.finetune.report.{name}", lambda *arguments: None)


@pytest.fixture
def no_page(monkeypatch) -> None:
    """Pages take longer than these trials."""
    monkeypatch.setattr("gpuaug.finetune.page_tuning.write", lambda path, *arguments: path.write_text(""))


class Forbidden:
    """A test part that nobody may look at."""

    def __getattr__(self, name: str):
        raise AssertionError(f"the test part was asked for {name}")

    def __len__(self) -> int:
        raise AssertionError("the test part was counted")


def settings(**options) -> Config:
    return Config(**BASE | options)


def told(done) -> list[tuple]:
    return [(one.state, one.options, one.score, one.loss, one.curve) for one in done.trials]


# --- what is searched -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("lr=1e-4:1e-2", Option("lr", 1e-4, 1e-2, log=True)),
        ("lr=1e-4:1e-2:linear", Option("lr", 1e-4, 1e-2)),
        ("layer-decay=0.5:1", Option("layer_decay", 0.5, 1.0)),
        ("epochs=3:12", Option("epochs", 3, 12, whole=True)),
        ("epochs=3,6", Option("epochs", choices=(3, 6))),
        ("frozen_bn=true,False", Option("frozen_bn", choices=(True, False))),
        ("weight_decay=0:0.1", Option("weight_decay", 0.0, 0.1)),
        ("optimizer=adamw,lion", Option("optimizer", choices=("adamw", "lion"))),
        (
            "augment=none,geometric:degrees=10,scale=(1, 2),photo_train:flip=0",
            Option("augment", choices=("none", "geometric:degrees=10,scale=(1, 2)", "photo_train:flip=0")),
        ),
    ],
)
def test_ranges_and_lists(text, option):
    assert parse([text], Config()) == [option]
    assert Option.from_dict(json.loads(json.dumps(vars(option)))) == option


def test_options_come_in_the_order_in_which_they_depend_on_each_other():
    assert parse(["lr", "epochs=2,3", "recipe"], Config())[0] == "recipe"
    assert listed("rates: deletion=0.1,swap=(0, 0.2),none") == ["rates: deletion=0.1,swap=(0, 0.2)", "none"]


@pytest.mark.parametrize(
    ("search", "options", "words"),
    [
        (["lrr"], {}, "there is no option 'lrr'; did you mean 'lr'?"),
        (["seed=1,2"], {}, "seed cannot be searched: it changes nothing of what is learned"),
        (["lr=1e-2:1e-3"], {}, "a range begins with its smaller end, and 1e-2 is not below 1e-3"),
        (["lr=a:b"], {}, "'a' is no number"),
        (["lr=-1:1"], {}, "lr must be above 0, got -1.0"),
        (["lr=0:1:log"], {}, "a logarithmic range begins above 0, got 0"),
        (["lr=1:2:3"], {}, "a range is LOW:HIGH, LOW:HIGH:log or LOW:HIGH:linear"),
        (["clip=nan:3"], {"clip": None}, "nan is not finite"),
        (["epochs=1.5:2"], {"epochs": None}, "'1.5' is no whole number"),
        (["epochs=0:3"], {"epochs": None}, "epochs must be at least 1, got 0"),
        (["epochs=2"], {"epochs": None}, "give at least two different values"),
        (["epochs"], {"epochs": None}, "epochs has no usual range; give one: 'epochs=LOW:HIGH'"),
        (["lr", "lr=1:2"], {}, "lr stands there twice; leave one out"),
        (["recipe=probe,fulll"], {}, "got 'fulll'; did you mean 'full'?"),
        (["recipe"], {}, "recipe can only be full here"),
        (["epochs=2,3"], {}, "epochs is searched, and given as 2; leave one out"),
        (["augment=none,auto"], {"augment": None}, "augment=auto is a search of its own; name presets"),
        (["augment=none,geometrik"], {"augment": None}, "did you mean 'geometric'"),
        (["optimizer=adamw,adamx"], {"optimizer": None}, "there is no optimizer 'adamx'"),
        (["warmup_epochs=1:2"], {"schedule": "onecycle"}, "warmup_epochs has no effect with schedule=onecycle"),
        (["pooling=mean,max"], {}, "pooling has no effect with another task than video"),
        (RATES, {"augment": "auto"}, "augment=auto is a search of its own"),
        (["feature_augment=mix,noise"], {}, "feature_augment has no effect with another recipe than probe"),
        ([], {"lr": 0.1, "recipe": "full"}, "nothing is left to search; name options"),
    ],
)
def test_what_cannot_be_searched_is_one_line_before_any_training(tmp_path, monkeypatch, search, options, words):
    monkeypatch.setattr(trials, "tried", lambda *arguments: pytest.fail("a trial began"))
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        tune(settings(out=tmp_path, **options), search=search, parts=finetuning.few())
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_an_option_that_another_leaves_without_effect_is_not_drawn():
    from optuna.trial import FixedTrial

    options = parse(["recipe=probe,full", "augment=none,geometric", "weight_decay=0.1:1"], Config())
    fixed = ((), False, 100, "classify", None, "image")
    every = space.Space((*options, Option("lr", 0.1, 10.0, log=True, times=True)), Config(), *fixed)
    drawn = {"augment": "geometric", "weight_decay": 0.5, "lr": 0.5}
    assert every.drawn(FixedTrial({"recipe": "full"} | drawn)) == {
        "recipe": "full", "augment": "geometric", "weight_decay": 0.5, "lr": 0.05,
    }  # fmt: skip
    assert every.drawn(FixedTrial({"recipe": "probe"} | drawn)) == {
        "recipe": "probe", "weight_decay": 0.5, "lr": 0.0015,
    }  # fmt: skip
    assert every.defaults("none") == {"recipe": "full", "augment": "none", "lr": 1.0}  # 5e-4 is not in the range


def test_by_default_lr_augmentation_and_recipe_are_searched(tmp_path):
    config = replace(settings(out=tmp_path), augment=None)
    job = trials.opened(replace(config, **trials.CHEAP), {"parts": finetuning.few()})
    for many, expected in ((9, 3), (20, 6), (40, 12)):
        found, words = space.opened(job, config, [], many)
        assert [one.name for one in found.options] == ["augment", "lr"]  # without weights the recipe is full
        assert len(found.options[0].choices) == expected and len(words) == 2
    weighted = replace(space.Space.of(job, config), pretrained=True)
    assert space.usual("recipe", job, weighted, 9, False).choices == ("probe", "finetune", "full")
    masked = replace(weighted, config=replace(config, mixup=0.2))
    assert space.usual("recipe", job, masked, 9, False).choices == ("finetune", "full")


# --- a search ---------------------------------------------------------------------------------------------------------
def test_trials_never_look_at_the_test_part_and_leave_no_weights(tmp_path, no_page):
    few = finetuning.few()
    parts = Parts("few", few.train, few.val, Forbidden())
    done = tune(settings(out=tmp_path), trials=3, search=RATES, final=False, parts=parts)
    assert [one.state for one in done.trials] == ["done"] * 3 and done.run is None
    assert [path.name for path in tmp_path.iterdir()] == [done.study.name] == ["001-tune-few"]
    names = {"journal.log", "state.json", "trials.json", "tune.html", "tune.json"}
    assert {path.name for path in done.study.iterdir()} == names
    assert done.best.score == max(one.score for one in done.trials) and done.config.lr == done.best.options["lr"]


class Stopped:
    """The cross entropy, which presses Ctrl-C at one of its calls."""

    def __init__(self, at: int | None = None):
        self.at, self.calls = at, 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += logits.requires_grad
        if self.calls == self.at and logits.requires_grad:
            signal.raise_signal(signal.SIGINT)
        return nn.functional.cross_entropy(logits, labels)


def test_a_search_that_was_stopped_has_the_trials_of_one_that_was_not(tmp_path, request):
    few, search = finetuning.few(), ["lr=1e-4:1e-1", "weight_decay=1e-3:1"]
    whole = tune(settings(out=tmp_path / "a"), trials=7, search=search, final=False, parts=few, loss=Stopped())
    with pytest.raises(Interrupted, match="stopped, 2 of 7 trials are done; go on with: gpuaug resume") as stopped:
        loss = Stopped(8 * 2 + 3)  # 4 steps an epoch, 2 epochs a trial: in the third one
        tune(settings(out=tmp_path / "b"), trials=7, search=search, final=False, parts=few, loss=loss)
    folder = stopped.value.run
    assert len(json.loads((folder / "trials.json").read_text())["trials"]) == 2
    assert "5 of 7 trials were not begun" in (folder / "tune.html").read_text()
    request.getfixturevalue("no_page")
    with pytest.raises(ValueError, match="it was given its parts, loss in Python; hand the same"):
        tuning.resume(folder)
    with study.opened(folder) as optuna:
        optuna.ask()  # as if its process had been killed in a trial
    with pytest.raises(Interrupted):
        tuning.resume("1", tmp_path / "b", parts=few, loss=Stopped(8 * 3 + 2))  # behind the random ones
    other = tuning.resume("1", tmp_path / "b", parts=few, loss=Stopped())
    assert other.study == folder and told(other) == told(whole) and len(other.trials) == 7
    more = tuning.resume(folder, trials=8, parts=few, loss=Stopped())
    assert told(more)[:7] == told(whole) and len(more.trials) == 8
    changed = Parts("few", few.train.subset(range(99)), few.val, few.test)
    with pytest.raises(ValueError, match="the data are no longer those that it began with"):
        tuning.resume(folder, parts=changed, loss=Stopped())


def test_a_search_whose_first_trial_was_killed_begins_with_the_defaults_again(tmp_path, no_page):
    few = finetuning.few()
    done = tune(settings(out=tmp_path), trials=1, search=["lr"], final=False, parts=few)
    assert done.best.options == {"lr": 0.1}  # of the recipe full
    for name in ("journal.log", "trials.json"):
        (done.study / name).unlink()
    with study.opened(done.study) as optuna:
        optuna.enqueue_trial({"lr": 1.0})
        optuna.ask()  # its process is killed here
    again = tuning.resume(done.study, parts=few)
    assert told(again) == told(done)


def test_a_bad_trial_ends_early_and_one_that_diverges_is_told(tmp_path):
    config = settings(out=tmp_path, epochs=10, clip=None, optimizer="sgd", lr=None)
    search = ["lr=0.05,1e-9,1e30"]
    done = tune(config, trials=14, search=search, final=False, parts=finetuning.few())
    by_rate: dict[float, set] = {}
    for one in done.trials:
        by_rate.setdefault(one.options["lr"], set()).add(one.state)
        assert (one.epochs < one.asked == 10) == (one.state != "done")
        if one.state == "pruned":
            assert one.epochs >= study.WARM_UP and one.number > 4
    assert by_rate[0.05] == {"done"} and "pruned" in by_rate[1e-9] and by_rate[1e30] == {"diverged"}
    diverged = next(one for one in done.trials if one.state == "diverged")
    assert "lower lr (now 1e+30)" in diverged.reason and diverged.score is None
    assert done.best.options == {"lr": 0.05}
    assert "lower lr (now 1e+30)" in (done.study / "tune.html").read_text()


def test_where_every_trial_diverges_the_search_says_so(tmp_path, no_page):
    config = settings(out=tmp_path, clip=None, optimizer="sgd")
    with pytest.raises(ValueError, match="no trial came to its end; the first one diverged: .*lower lr") as raised:
        tune(config, trials=2, search=["lr=1e30,1e31"], parts=finetuning.few())
    assert "\n" not in str(raised.value)


def test_a_trial_that_cannot_be_is_told_and_the_others_go_on(tmp_path, no_page):
    config = settings(out=tmp_path, size=None, epochs=1, seed=SEED)
    done = tune(config, trials=6, search=["size=16,12"], final=False, parts=finetuning.few())
    states = {(one.options["size"], one.state) for one in done.trials}
    assert states == {(16, "done"), (12, "failed")} and done.trials[0].state == "done"
    assert all("12 x 12" in one.reason for one in done.trials if one.state == "failed")
    again = tuning.resume(done.study, trials=7, parts=finetuning.few())
    assert told(again)[:6] == told(done) and len(again.trials) == 7


def test_what_has_an_effect_beside_a_value_that_is_searched_is_searched(tmp_path, no_page):
    config = settings(out=tmp_path, schedule=None, epochs=1)
    search = ["schedule=constant,plateau", "plateau_patience=1:5"]
    done = tune(config, trials=6, search=search, final=False, parts=finetuning.few())
    drawn = [(one.options["schedule"], "plateau_patience" in one.options) for one in done.trials]
    assert set(drawn) == {("constant", False), ("plateau", True)}


def test_what_a_run_cannot_be_ends_the_search_in_one_line(tmp_path, no_page):
    few = finetuning.few()
    for options, parts, words in (
        ({"val_fraction": 0.0}, None, "val_fraction must be above 0 to tune: trials are judged by the validation part"),
        ({}, Parts("few", few.train, None, few.test), "the parts have no validation part"),
        ({"best": "f2"}, few, "best: there is no metric 'f2'"),
    ):
        given = {"parts": parts} if parts else {}
        with pytest.raises(ValueError, match=words):
            tune(settings(out=tmp_path, **options), search=RATES, **given)
    for keywords, words in (
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"timeout": 0}, "timeout must be above 0 minutes, got 0"),
        ({"model": nn.Linear(1, 1)}, "model cannot be given in Python; it takes parts"),
    ):
        with pytest.raises(ValueError, match=words):
            tune(settings(out=tmp_path), search=RATES, **keywords)
    with pytest.raises(ValueError, match="takes no images of (8 x 8|12 x 12)"):
        tune(replace(settings(out=tmp_path), size=None), search=["size=8,12"], parts=few)
    assert not list(tmp_path.iterdir())


def test_the_time_ends_a_search_and_few_images_are_judged_by_the_last_epoch(tmp_path, monkeypatch, no_page):
    monkeypatch.setattr("gpuaug.finetune.task.held_out", lambda config, n: (config.val_fraction or 0.0, True))
    config = settings(out=tmp_path, epochs=3, batch_size=400)
    done = tune(config, trials=50, timeout=1e-4, search=RATES, final=False)
    assert len(done.trials) == 1
    facts = Run(done.study).json(tuning.STUDY)
    assert facts["last"] and facts["images"]["val"] == pytest.approx(0.2 * 1438, abs=5)
    assert done.best.epoch == 3 and done.best.score == done.best.curve[-1]
    assert done.config.val_fraction is None


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_searches_runs_once_and_leaves_a_page(tmp_path, capsys):
    args = ["--model", "test_tune:tiny", "--size", "16", "--batch-size", "200", "--device", "cpu", "--workers", "0"]
    args += ["--epochs", "1", "--robustness", "0", "--out", str(tmp_path), "--optimizer", "adamw"]
    command = ["tune", *args, "--trials", "4", "--search", "lr=1e-4:1e-2", "augment=none,rotate_shift:degrees=10"]
    assert main(command) == 0
    said, folder = capsys.readouterr().out, tmp_path / "001-tune-digits"
    assert "the test part is not looked at" in said and "search   lr: 0.0001 to 0.01, logarithmic" in said
    assert said.count("\ntrial ") == 4 and f"next     open {folder / 'tune.html'}" in said
    came = Run(folder).json(tuning.study.TRIALS)
    best = came["trials"][came["best"] - 1]
    assert f"--lr {best['options']['lr']}" in came["command"] and came["command"] in said
    run = Run(next(path for path in tmp_path.glob("002-*")))
    assert run.config.lr == best["options"]["lr"] and run.config.augment == best["options"]["augment"]
    assert run.event("after")["test_accuracy"] > 0.1 and run.config.robustness == 0
    kept = [line["val_accuracy"] for line in run.history]
    assert kept[0] == pytest.approx(best["score"])  # the same run: on a CPU a trial has its numbers
    page = (folder / "tune.html").read_text()
    for words in ("The best", "The run with it", "How it went", "What mattered", "Every trial", "What was searched"):
        assert f"<h2>{words}</h2>" in page
    assert run.name in page and page.count("data:image/png") >= 3 and 'src="http' not in page
    assert page.count('<td class="left">done</td>') == 4 and "gpuaug finetune" in page

    assert main(["resume", "1", "--out", str(tmp_path)]) == 0  # nothing is left to do, and nothing is done again
    assert len(list(tmp_path.glob("0*"))) == 2
    assert main(["tune", "--resume", "1", "--out", str(tmp_path), "--trials", "5", "--no-final"]) == 0
    assert len(Run(folder).json(tuning.study.TRIALS)["trials"]) == 5
    capsys.readouterr()
    assert main(["tune", "--resume", "1", "--out", str(tmp_path), "--lr", "0.1"]) == 2
    words = "gpuaug: --lr has no effect with resume (a search goes on as it was begun): leave it out\n"
    assert capsys.readouterr().err == words
    assert main(["tune", "--resume", "7", "--out", str(tmp_path)]) == 2
    assert "there is no study '7' of gpuaug tune" in capsys.readouterr().err
    assert main(["tune", "--search", "weight-decai"]) == 2
    assert (
        capsys.readouterr().err == "gpuaug: search: there is no option 'weight_decai'; did you mean 'weight_decay'?\n"
    )


def test_without_optuna_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(["tune", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "gpuaug: tune needs optuna: pip install 'gpuaug[tune]'\n"
    assert not list(tmp_path.iterdir())


def test_a_config_is_spelt_as_the_command_that_gives_it():
    import shlex

    import tyro

    from gpuaug.commands.finetune import Finetune

    config = Config(
        augment="geometric:degrees=10,scale=(1, 2)", lr=1e-4, teacher=("a b", "2"), frozen_bn=True, resident=False,
        mean=(0.1, 0.2, 0.3), out=Path("x y"), weights="w.safetensors", epochs=3, patience=None,
    )  # fmt: skip
    words = shlex.split(command_of(config))
    assert words[:2] == ["gpuaug", "finetune"]
    assert Config(**vars(tyro.cli(Finetune, args=words[2:]))) == config
    assert command_of(config, ["parts"]).endswith("  # and in Python, with parts=")


def test_of_equal_trials_the_one_with_less_loss_is_the_best():
    def trial(number: int, state: str, score: float | None, loss: float | None) -> trials.Trial:
        return trials.Trial(number, state, {}, score, loss)

    found = [trial(1, "done", 0.9, 0.5), trial(2, "done", 0.9, 0.4), trial(3, "pruned", 0.95, 0.1)]
    assert trials.best_of(found, "accuracy").number == 2
    assert trials.best_of([trial(1, "done", 0.5, 0.5), trial(2, "done", 0.4, 0.4)], "-loss").number == 2
    assert trials.best_of(found[2:], "accuracy") is None


# --- other tasks ------------------------------------------------------------------------------------------------------
def test_texts_are_tuned_too(tmp_path, no_page):
    pytest.importorskip("tokenizers")
    data = finetuning_text.folder(tmp_path / "texts")
    config = Config(data=str(data), epochs=2, batch_size=16, device="cpu", quiet=True, out=tmp_path / "runs", clip=1.0)
    done = tune(config, trials=3, search=["lr=1e-3:1e-2", "augment=none,text_light"], final=False)
    assert [one.state for one in done.trials] == ["done"] * 3 and done.trials[0].options["augment"] == "text_light"
    assert Run(done.study).json(tuning.STUDY)["images"].keys() == {"train", "val"}
    with pytest.raises(ValueError, match="augment has no candidates for the task text; name them"):
        tune(config, search=["augment"])
