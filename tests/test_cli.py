"""The command line: real runs from a folder of pictures to a prediction, and one message for
every kind of bad input."""

import argparse
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import asdict, fields, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_lib import FACTORIES, checkpoint, cli, create, data, measure, predict, records, train
from resnet_lib.cli.arguments import parse_options, pick_device
from resnet_lib.cli.training import RECIPE_HELP, WRITTEN
from resnet_lib.recipe import Recipe

pytestmark = pytest.mark.xdist_group("cli")  # what they share is trained once
ROOT = Path(__file__).resolve().parent.parent
CLASSES = ["disc", "plus", "ring"]
SMALL = ["--option", "widths=[8,16,16]", "--device", "cpu", "--threads", "1"]


def call(*argv) -> tuple[int, str]:
    """(exit status, standard output) of a command in this process."""
    with redirect_stdout(io.StringIO()) as out:
        status = cli.main([str(a) for a in argv])
    return status, out.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """120 PNG files of 16x16 pixels in three class folders, not divided into train and test."""
    root = tmp_path_factory.mktemp("pictures")
    drawn = data.shapes10(n_train=500, n_test=10, size=16, rotation=0).train
    names = data.shapes10(n_train=10, n_test=10, size=16).classes
    for name in CLASSES:
        (root / name).mkdir()
        for k, x in enumerate(drawn.x[drawn.y == names.index(name)][:40]):
            Image.fromarray(x.permute(1, 2, 0).numpy()).save(root / name / f"{k:02}.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Decoded pictures are kept for next time: not in the home folder of whoever tests."""
    before = os.environ.get("RESNET_LIB_CACHE")
    os.environ["RESNET_LIB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["RESNET_LIB_CACHE"]
    if before is not None:
        os.environ["RESNET_LIB_CACHE"] = before


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """(folder of a run, what it printed)."""
    out = tmp_path_factory.mktemp("run") / "mine"
    argv = ["train", "--data", pictures, "--model", "resnet20", *SMALL, "--epochs", "2"]
    argv += ["--batch-size", "16", "--augment", "flip", "--seed", "3", "--out", out]
    status, said = call(*argv)
    assert status == 0, said
    return out, said


# --- from pictures to a prediction


def test_train_says_what_it_does_and_writes_everything(trained, pictures):
    out, said = trained
    assert "96 training and 24 test pictures" in said
    assert "classes  0 disc, 1 plus, 2 ring" in said
    assert re.search(r"^epoch  2/2  lr ", said, re.M)
    record = json.loads((out / "record.json").read_text())
    best = record["test"]["best"]["accuracy"]
    assert f"test     {best:.2f} % with the weights of epoch {record['test']['best_epoch']}" in said
    assert record["options"] == {"num_classes": 3, "in_channels": 3, "widths": [8, 16, 16]}
    assert record["recipe"]["seed"] == 3 and record["recipe"]["augment"] == ["flip"]
    assert record["train_pictures"] + record["valid_pictures"] == 96
    assert json.loads((out / "history.json").read_text()) == record["history"]
    assert sorted(p.name for p in out.iterdir()) == [
        "best.pt",
        "curves.png",
        "history.json",
        "last.previous.pt",
        "last.pt",
        "record.json",
    ]
    assert sorted(WRITTEN) == sorted(p.name for p in out.iterdir())
    with Image.open(out / "curves.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 300 and pixels.shape[1] > 900
    assert tuple(pixels[2, 2]) == (255, 255, 255)
    colours = Counter(map(tuple, pixels.reshape(-1, 3)))
    for r, g, b in ((0x3F, 0x7F, 0xCB), (0xC8, 0x60, 0x1E)):  # both curves are drawn
        assert colours[r, g, b] > 100


def test_evaluate_uses_the_same_test_pictures_as_the_training(trained, pictures):
    """The seed of the run divided the folder; another one would test on training pictures."""
    out, _ = trained
    test = json.loads((out / "record.json").read_text())["test"]
    for which in ("best", "last"):
        status, said = call("evaluate", out / f"{which}.pt", "--data", pictures, "--device", "cpu")
        right = round(test[which]["accuracy"] * 24 / 100)
        assert status == 0
        assert f"{test[which]['accuracy']:.2f} % ({right} of 24)" in said
        assert f"loss {test[which]['loss']:.4f}" in said


def test_evaluate_on_the_training_part(trained, pictures):
    status, said = call("evaluate", trained[0] / "best.pt", "--data", pictures, "--part", "train")
    assert status == 0 and "train part: accuracy" in said and "of 96)" in said


def test_predict_a_file_in_a_process_of_its_own(trained, pictures, tmp_path):
    """`python -m resnet_lib predict picture --figure`, as a reader types it."""
    figure = tmp_path / "answer.png"
    picture = pictures / "ring" / "07.png"
    command = [sys.executable, "-m", "resnet_lib", "predict", picture, "--figure", figure]
    command += ["--weights", trained[0] / "best.pt", "--top", "2"]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"net: resnet20, trained on {pictures.name}"
    assert lines[1] == str(picture)
    found = [re.fullmatch(r"  (\w+) +(\d+\.\d\d) %", line).groups() for line in lines[2:4]]
    assert {name for name, _ in found} <= set(CLASSES)
    chances = [float(c) for _, c in found]
    assert chances == sorted(chances, reverse=True) and 33 < sum(chances) <= 100
    with Image.open(figure) as image:
        assert len(set(map(tuple, np.asarray(image.convert("RGB")).reshape(-1, 3)))) > 50
    # The same, computed by hand from the pixels.
    net = predict.open_net(trained[0] / "best.pt")
    x = torch.tensor(np.asarray(Image.open(picture))).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(net.meta[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        wanted = net.net((x - mean) / std).softmax(1)[0].sort(descending=True)
    assert [CLASSES[i] for i in wanted.indices[:2]] == [name for name, _ in found]
    assert chances == pytest.approx((100 * wanted.values[:2]).tolist(), abs=0.006)


def test_predict_several_pictures_of_any_size(trained, pictures, tmp_path):
    large = tmp_path / "large.jpg"
    Image.open(pictures / "disc" / "00.png").resize((90, 60)).save(large)
    argv = ["predict", large, pictures / "plus" / "01.png", "--weights", trained[0] / "last.pt"]
    status, said = call(*argv)
    assert status == 0 and said.count(" %") == 6  # three classes each


def test_digits_in_a_minute_and_no_download(tmp_path):
    """The first example of the help, with fewer epochs."""
    argv = ["train", "--data", "digits", *SMALL, "--epochs", "1", "--augment", "none"]
    status, said = call(*argv, "--out", tmp_path / "digits")
    assert status == 0 and "1347 training and 450 test" in said
    saved = predict.open_net(tmp_path / "digits" / "best.pt")
    assert saved.meta["shape"] == [1, 8, 8] and saved.net.conv1.in_channels == 1


def test_the_first_example_of_the_help_is_a_good_one(tmp_path):
    """With flips, which are the default, the same command reaches a third of the digits."""
    line = re.search(r"python -m resnet_lib (train --data digits .*)", cli.EXAMPLES)[1]
    argv = [*line.split(), "--device", "cpu", "--threads", "1"]
    argv[argv.index("--out") + 1] = tmp_path / "digits"
    status, said = call(*argv)
    assert status == 0
    assert float(re.search(r"^test +(\d+\.\d+) %", said, re.M)[1]) > 93


@pytest.mark.parametrize("left", WRITTEN)
@pytest.mark.parametrize("option", ["--out", "--copy-to"])
def test_no_file_of_a_run_is_replaced_without_overwrite(left, option, capsys, tmp_path):
    """Nor in the second folder: where the first is new, that holds all there is of the run."""
    (tmp_path / left).write_text("of another run")
    argv = ["train", "--data", "digits", *SMALL, option, tmp_path]
    argv += ["--out", tmp_path / "new"] if option == "--copy-to" else []
    error = refused(capsys, *argv)
    assert f"{tmp_path} already holds a run" in error and "--resume" in error
    assert (tmp_path / left).read_text() == "of another run"
    assert [p.name for p in tmp_path.iterdir()] == [left]


def test_overwrite_and_a_stop_leave_nothing_of_the_old_run(monkeypatch, capsys, tmp_path):
    """An old record beside new weights would be a lie about them."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in [*WRITTEN, "my notes.txt"]:
        (tmp_path / name).write_text("old")
        (copy / name).write_text("old")
    argv = ["train", "--data", "digits", *SMALL, "--overwrite", "--out", tmp_path]
    argv += ["--copy-to", copy]
    torch.save({"stranger": torch.ones(1)}, tmp_path / "other net.pt")
    wrongs = (["--option", "num_classes=4"], ["--epochs", "0"], ["--size", "99999"])
    wrongs += (["--init-from", "nothing.pt"], ["--init-from", tmp_path / "other net.pt"])
    for wrong in wrongs:
        refused(capsys, *argv, *wrong)
        for name in WRITTEN:  # as long as nothing was started
            assert (tmp_path / name).read_text() == (copy / name).read_text() == "old"
    (tmp_path / "other net.pt").unlink()

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "evaluate", stop)  # in the middle of the first epoch
    assert cli.main([*map(str, argv)]) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "my notes.txt"]
    assert [p.name for p in copy.iterdir()] == ["my notes.txt"]


def test_overwrite_replaces_a_run(pictures, tmp_path):
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "1", "--out", tmp_path]
    argv += ["--batch-size", "48"]
    assert call(*argv)[0] == 0
    first = (tmp_path / "record.json").read_text()
    assert call(*argv)[0] == 2  # not without being told
    assert (tmp_path / "record.json").read_text() == first
    assert call(*argv, "--overwrite")[0] == 0
    assert (tmp_path / "record.json").read_text() != first


@pytest.mark.parametrize(
    ("argv", "shape", "options"),
    [
        (["resnet18"], (3, 224, 224), {}),
        (["resnet20", "--option", "in_channels=1"], (1, 32, 32), {"in_channels": 1}),
        (["resnet50", "--input", 3, 64, 96], (3, 64, 96), {}),
    ],
    ids=["resnet18", "resnet20", "resnet50"],
)
def test_summary(argv, shape, options):
    status, said = call("summary", *argv)
    net = create(argv[0], **options)
    lines = said.splitlines()
    assert status == 0 and lines[0] == f"{argv[0]}, input {shape}"
    rows = measure.layer_table(net, shape)
    assert len(lines) == 3 + len(rows)
    for line, row in zip(lines[2:-1], rows, strict=True):
        assert line.split()[0] == row.name and line.endswith(f"{row.macs:>16,}")
    assert lines[-1].startswith(f"{measure.count_parameters(net):,} parameters")


def test_summary_lists_the_models():
    status, said = call("summary", "--list")
    assert status == 0 and said.split()[:2] == ["resnet18", "resnet34"]
    for name in said.split():
        assert name in FACTORIES


# --- the options of a recipe


def parsed(*argv) -> Recipe:
    """The recipe that a command would be carried out with."""
    found = cli.build_parser().parse_args(["train", "--data", "digits", "--out", "x", *argv])
    return Recipe(**{f.name: getattr(found, f.name) for f in fields(Recipe)})


def test_every_field_of_a_recipe_is_an_option_with_a_help():
    names = [f.name for f in fields(Recipe)]
    assert list(RECIPE_HELP) == names and all(RECIPE_HELP.values())
    options = {a.dest: a for a in commands()["train"]._actions}
    for field in fields(Recipe):
        action = options[field.name]
        assert f"--{field.name.replace('_', '-')}" in action.option_strings
        assert RECIPE_HELP[field.name] in action.help
        no = f"--no-{field.name.replace('_', '-')}"
        assert (no in action.option_strings) == isinstance(field.default, bool)
    assert parsed() == Recipe()


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if isinstance(f.default, bool)])
def test_what_is_yes_or_no_can_be_said_both_ways(name):
    flag = name.replace("_", "-")
    assert parsed(f"--{flag}") == replace(Recipe(), **{name: True})
    assert parsed(f"--no-{flag}") == replace(Recipe(), **{name: False})


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("--milestones 0.3,0.6,0.9", {"milestones": (0.3, 0.6, 0.9)}),
        ("--milestones 0.3", {"milestones": (0.3,)}),
        ("--milestones none", {"milestones": ()}),
        ("--augment none", {"augment": ()}),
        ("--augment flip", {"augment": ("flip",)}),
        ("--augment crop,flip", {"augment": ("crop", "flip")}),
        ("--optimizer adamw", {"optimizer": "adamw"}),
        ("--precision fp16", {"precision": "fp16"}),
        ("--label-smoothing 0.1", {"label_smoothing": 0.1}),
        ("--accumulate 4", {"accumulate": 4}),
        ("--ema 0.999", {"ema": 0.999}),
        ("--weight-decay 0", {"weight_decay": 0.0}),
        ("--schedule step --batch-size 64", {"schedule": "step", "batch_size": 64}),
    ],
)
def test_words_become_the_values_of_a_recipe(argv, wanted):
    assert parsed(*argv.split()) == replace(Recipe(), **wanted)


def test_every_option_reaches_the_record(pictures, tmp_path):
    argv = "--epochs 1 --batch-size 16 --lr 0.01 --momentum 0.8 --no-nesterov --weight-decay 0.001 "
    argv += "--schedule step --warmup 0.1 --augment flip --valid 0.2 --precision bf16 "
    argv += "--channels-last --seed 5 --optimizer adamw --no-decay-norm-bias "
    argv += "--milestones 0.2,0.4 --label-smoothing 0.1 --accumulate 2 --ema 0.9 --no-compile"
    out = tmp_path / "run"
    status, _ = call("train", "--data", pictures, *SMALL, *argv.split(), "--out", out)
    assert status == 0
    wanted = parsed(*argv.split())
    recipe = json.loads((out / "record.json").read_text())["recipe"]
    assert recipe == json.loads(json.dumps(asdict(wanted)))
    same = [f.name for f in fields(Recipe) if getattr(wanted, f.name) == f.default]
    assert same == ["compile"]  # all others are not what they would have been anyway


# --- a run that was stopped, copied, or begun with the weights of another


FREE = ("history", "seconds", "resumed", "peak_memory")  # of a record, where clocks come in


def record_of(out) -> dict:
    return json.loads((out / "record.json").read_text())


def alike(one, two) -> bool:
    rows = [[{k: r[k] for k in r if k != "seconds"} for r in x["history"]] for x in (one, two)]
    plain = [{k: x[k] for k in x if k not in FREE} for x in (one, two)]
    return rows[0] == rows[1] and plain[0] == plain[1]


RUN = ["--epochs", "3", "--batch-size", "16", "--augment", "flip", "--ema", "0.5"]


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """The folder of a run of RUN that was not stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert call("train", "--data", pictures, *SMALL, *RUN, "--out", out)[0] == 0
    return out


KILLED = """
import os, signal, sys
from resnet_lib import cli, run_state

keep = run_state.keep


def kept(result, *args):
    keep(result, *args)
    if len(result.history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)


run_state.keep = kept
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def killed(pictures, tmp_path_factory):
    """A folder with "run" and "copy", as a kill after the second epoch of RUN left them."""
    folder = tmp_path_factory.mktemp("killed")
    argv = ["train", "--data", pictures, *SMALL, *RUN, "--out", folder / "run"]
    argv = [sys.executable, "-c", KILLED, *argv, "--copy-to", folder / "copy"]
    done = subprocess.run(list(map(str, argv)), cwd=ROOT, timeout=120)
    assert done.returncode == -9
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("left", ["both folders", "the copy alone"])
def test_a_killed_run_goes_on_to_the_same_record(left, pictures, whole, killed, tmp_path, capsys):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    out, copy = tmp_path / "run", tmp_path / "copy"
    argv = ["train", "--data", pictures, *SMALL, *RUN, "--out", out, "--copy-to", copy]
    assert not (out / "record.json").exists()
    if left == "the copy alone":
        shutil.rmtree(out)
    held = copy if left == "the copy alone" else out
    assert f"{held} already holds a run" in refused(capsys, *argv)  # it has to be said
    before = (copy / "last.pt").read_bytes()
    error = refused(capsys, *argv, "--resume", "--lr", "0.2", "--label-smoothing", "0.1")
    assert error.count("another configuration") == 1 and error.count("there, ") == 2
    assert "lr: 0.1 there, 0.2 now" in error and "label_smoothing: 0.0 there, 0.1 now" in error
    assert (copy / "last.pt").read_bytes() == before
    status, said = call(*argv, "--resume")
    assert status == 0 and "epoch  3/3" in said and "epoch  2/3" not in said
    record = record_of(out)
    assert record["resumed"] == [2] and alike(record, record_of(whole))
    assert (copy / "record.json").read_bytes() == (out / "record.json").read_bytes()
    for name in ("best.pt", "last.pt"):
        assert (copy / name).read_bytes() == (out / name).read_bytes()
        mine, its = (checkpoint.load(folder / name)[0] for folder in (out, whole))
        assert all(torch.equal(mine[k], its[k]) for k in its)
    # And once more: it is finished, so it is only tested.
    status, said = call(*argv, "--resume")
    assert status == 0 and "epoch " not in said.replace("of epoch", "") and "test  " in said
    assert alike(record_of(out), record)


def test_resume_where_nothing_is_begins(pictures, whole, tmp_path):
    argv = ["train", "--data", pictures, *SMALL, *RUN, "--out", tmp_path / "new", "--resume"]
    assert call(*argv)[0] == 0
    record = record_of(tmp_path / "new")
    assert record["resumed"] == [] and alike(record, record_of(whole))


def test_resume_of_a_broken_run_is_refused_in_one_message(pictures, whole, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("last.pt", "last.previous.pt"):
        (out / name).write_bytes(b"broken")
    argv = ["train", "--data", pictures, *SMALL, *RUN, "--out", out, "--resume"]
    error = refused(capsys, *argv)
    assert f"{out / 'last.pt'}: " in error and f"{out / 'last.previous.pt'}: " in error
    assert (out / "last.pt").read_bytes() == b"broken" and (out / "best.pt").exists()


def test_a_warm_start_from_a_file(pictures, whole, tmp_path, capsys):
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "1", "--batch-size", "16"]
    argv += ["--lr", "1e-9", "--warmup", "0", "--weight-decay", "0"]  # as good as no training
    start = whole / "best.pt"
    assert call(*argv, "--init-from", start, "--out", tmp_path / "warm")[0] == 0
    record = record_of(tmp_path / "warm")
    assert record["init_from"] == checkpoint.fingerprint(checkpoint.load(start)[0])
    mine, its = checkpoint.load(tmp_path / "warm" / "last.pt")[0], checkpoint.load(start)[0]
    torch.testing.assert_close(mine["fc.weight"], its["fc.weight"], rtol=1e-4, atol=1e-6)
    argv[argv.index("widths=[8,16,16]")] = "widths=[4,4,4]"
    error = refused(capsys, *argv, "--init-from", start, "--out", tmp_path / "other")
    assert f"{start} does not fit this ResNet" in error and "conv1.weight" in error
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("place", ["out", "copy"])
def test_overwrite_does_not_remove_what_it_is_to_start_from(
    place, pictures, whole, capsys, tmp_path
):
    folder = tmp_path / place
    shutil.copytree(whole, folder)
    argv = ["train", "--data", pictures, *SMALL, "--out", tmp_path / "out", "--overwrite"]
    argv += ["--copy-to", tmp_path / "copy", "--init-from", folder / "best.pt"]
    error = refused(capsys, *argv)
    assert "--overwrite would remove it" in error and error.count("\n") == 1
    assert sorted(p.name for p in folder.iterdir()) == sorted(WRITTEN)


def test_a_copy_onto_itself_is_refused(capsys, tmp_path):
    argv = ["train", "--data", "digits", "--out", tmp_path / "a", "--copy-to"]
    assert "the folder of --out itself" in refused(capsys, *argv, tmp_path / "b" / ".." / "a")


def test_a_copy_that_fails_is_no_reason_to_stop(pictures, tmp_path):
    (tmp_path / "file").write_text("in the way")
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "1", "--out", tmp_path / "run"]
    with pytest.warns(UserWarning, match="the copy to .* failed"):
        assert call(*argv, "--copy-to", tmp_path / "file")[0] == 0
    assert (tmp_path / "run" / "record.json").is_file()
    with pytest.warns(UserWarning, match="the copy to .* failed"):
        assert call(*argv, "--copy-to", tmp_path / "file", "--overwrite")[0] == 0


# --- help


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli.build_parser()._actions
    return next(a.choices for a in actions if isinstance(a, argparse._SubParsersAction))


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "summary"])
def test_help_names_every_option(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0
    for action in commands()[command]._actions:
        assert action.help, f"{action.dest} is not explained"
        for name in action.option_strings or [action.metavar or action.dest]:
            assert name in said
        assert "%(" not in said


def test_help_of_the_whole(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and "examples:" in said
    assert all(f"\n    {name}" in said for name in commands())
    # The examples must at least be understood by the parser.
    for line in re.findall(r"python -m resnet_lib (.*)", said.split("examples:")[1]):
        cli.build_parser().parse_args(line.split("   ")[0].split())


# --- bad input: status 2, one message, no traceback


def refused(capsys, *argv) -> str:
    status = cli.main([str(a) for a in argv])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith(f"resnet_lib {argv[0]}: ") and "Traceback" not in error
    assert error.count(f"resnet_lib {argv[0]}: ") == 1
    assert len(error) < 1500
    return error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data", "digits", "--model", "resnet19"], "there is no model 'resnet19'.*resnet20"),
        (["--data", "mnist"], "unknown data 'mnist'.*digits, shapes10, cifar10"),
        (["--data", "no/such/folder"], r"no/such/folder: no such folder"),
        (["--data", "digits", "--option", "depth=3"], "--option depth=3.*widths"),
        (["--data", "digits", "--option", "stem"], "--option stem: write NAME=VALUE"),
        (["--data", "digits", "--option", "widths=5"], "resnet20 cannot be built"),
        (["--data", "digits", "--option", "widths=[8]"], "one of each per stage"),
        (["--data", "digits", "--option", "stem=big"], "stem='big': choose 'imagenet'"),
        (["--data", "digits", "--option", "num_classes=ten"], "resnet20 cannot be built"),
        (["--data", "digits", "--option", "num_classes=4"], "num_classes=4: digits has 10"),
        (["--data", "digits", "--option", "num_classes=20"], "num_classes=20: digits has 10"),
        (["--data", "digits", "--option", "in_channels=3"], "in_channels=3: digits has 1;"),
        (["--data", "digits", "--option", "include_top=false"], "without a head"),
        (["--data", "digits", "--option", "include_top=False"], "without a head"),
        (["--data", "digits", "--option", "include_top=0"], "include_top must be true or false"),
        (["--data", "digits", "--option", "zero_init_residual=no"], "residual must be true or f"),
        (["--data", "digits", "--option", "stem=3"], "stem=3: stem must be a word"),
        (["--data", "digits", "--option", "shortcut=null"], "shortcut must be a word"),
        (["--data", "digits", "--option", "shortcut=False"], "shortcut must be a word"),
        (["--data", "digits", "--option", "stride_in=[3]"], "stride_in must be a word"),
        (["--data", "digits", "--size", "99999"], "digits: pictures of 99999 px .* 2 GiB"),
        (["--data", "digits", "--seed", "-1"], r"seed=-1: must be from 0 to 2\*\*63 - 1"),
        (["--data", "digits", "--seed", str(2**63)], "seed=9223372036854775808: must be"),
        (["--data", "digits", "--device", "cpu:3"], "--device cpu:3: use auto, cpu"),
        (["--data", "digits", "--device", "cuda:-1"], "--device cuda:-1: use auto, cpu"),
        (["--data", "digits", "--epochs", "0"], "epochs=0: must be at least 1"),
        (["--data", "digits", "--lr", "-1"], "lr=-1.0: must be above 0"),
        (["--data", "digits", "--augment", "spin"], "augment=.*spin.*crop, flip"),
        (["--data", "digits", "--augment", "0.5"], "augment=.*0.5.*crop, flip"),
        (["--data", "digits", "--milestones", "half"], "milestones=.*half.*rising shares"),
        (["--data", "digits", "--milestones", "0.5,late"], "milestones=.*late.*rising shares"),
        (["--data", "digits", "--milestones", "0.7,0.5"], "milestones=.*rising shares"),
        (["--data", "digits", "--milestones", "50"], "milestones=.*rising shares"),
        (["--data", "digits", "--label-smoothing", "1"], "label_smoothing=1.0: must be"),
        (["--data", "digits", "--accumulate", "65"], "accumulate=65: must be .* 2 pictures"),
        (["--data", "digits", "--accumulate", "0"], "accumulate=0: must be"),
        (["--data", "digits", "--ema", "1"], "ema=1.0: must be"),
        (["--data", "digits", "--init-from", "no.pt"], "no.pt: there is no such weights file"),
        (["--data", "digits", "--stream"], "stream=True is for picture folders"),
        (["--data", "digits", "--threads", "-1"], "--threads must be at least 1"),
        (["--data", "digits", "--device", "gpu"], "--device gpu: use auto, cpu"),
        (["--data", "digits", "--device", "meta"], "--device meta: use auto, cpu"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_train_refuses(argv, words, capsys, tmp_path):
    error = refused(capsys, "train", *argv, "--out", tmp_path / "out")
    assert re.search(words, error, re.S), error
    assert not (tmp_path / "out" / "record.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there(capsys, trained, pictures, tmp_path):
    error = refused(capsys, "train", "--data", "digits", "--device", "cuda", "--out", tmp_path)
    assert "--device cuda: torch sees no GPU here; use --device cpu" in error
    argv = ["evaluate", trained[0] / "best.pt", "--data", pictures, "--device", "cuda:1"]
    assert "--device cuda:1: torch sees no GPU" in refused(capsys, *argv)


def test_a_gpu_with_too_high_a_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("cuda", "cuda:0"):
        assert pick_device(name) == torch.device(name)
    for name in ("cuda:1", "cuda:7", "cuda:256", "cuda:999999999"):
        with pytest.raises(ValueError, match=rf"--device {name}: torch sees 1 GPU\(s\) here"):
            pick_device(name)
    for name in ("", "cuda:", "cuda:01", "cuda:x", "cuda:-1", "cpu:0", "cpu:3", "CUDA"):
        with pytest.raises(ValueError, match=f"--device {name}: use auto, cpu, cuda or cuda:1"):
            pick_device(name)


def test_evaluate_takes_the_batch_size_of_the_recipe(trained, pictures, monkeypatch, tmp_path):
    """What fitted into the memory in training fits again."""
    sizes, evaluate = [], train.evaluate

    def noted(*args, batch_size=None, **kwargs):
        sizes.append(batch_size)
        return evaluate(*args, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(train, "evaluate", noted)
    state, meta = checkpoint.load(trained[0] / "best.pt")
    for recipe in (meta["recipe"], meta["recipe"] | {"batch_size": 4096}, None):
        about = meta | {"recipe": recipe} if recipe else {k: meta[k] for k in meta if k != "recipe"}
        checkpoint.save(tmp_path / "net.pt", state, about)
        argv = ["evaluate", tmp_path / "net.pt", "--data", pictures, "--device", "cpu"]
        assert call(*argv)[0] == 0
    assert sizes == [16, 500, 500]


@pytest.mark.parametrize("text", ["True", "true", "False", "false"])
def test_yes_and_no_may_be_spelled_as_in_python(text):
    for name in ("include_top", "zero_init_residual"):
        assert parse_options([f"{name}={text}"]) == {name: text.lower() == "true"}
    wanted = {"stem": "cifar", "stride_in": "3x3", "widths": [8, 16]}
    assert parse_options(["stem=cifar", "stride_in=3x3", "widths=[8,16]"]) == wanted


# --- a missing library, too little memory, a reader who leaves


def without(monkeypatch, module: str) -> None:
    """As if `module` were not installed."""
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(
    ("module", "name"),
    [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib"), ("safetensors", "safetensors")],
)
def test_a_missing_library_is_named(module, name, capsys, monkeypatch, trained, pictures, tmp_path):
    argv = ["train", "--data", "digits", *SMALL, "--out", tmp_path / "out"]
    if module == "safetensors":
        state, meta = checkpoint.load(trained[0] / "best.pt")
        checkpoint.save(tmp_path / "net.safetensors", state, meta)
        picture = pictures / "ring" / "00.png"
        argv = ["predict", picture, "--weights", tmp_path / "net.safetensors"]
    without(monkeypatch, module)
    error = refused(capsys, *argv)
    assert error.endswith(f"; install it with pip install {name}\n") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()  # also matplotlib, which draws after the training


def test_pillow_is_called_by_the_name_that_pip_knows():
    error = ModuleNotFoundError("No module named 'PIL'", name="PIL")
    wanted = "No module named 'PIL'; install it with pip install pillow"
    assert cli.explain(error) == wanted
    assert not cli.explain(ImportError("cannot import", name="resnet_lib.cli"))  # our mistake
    assert not cli.explain(RuntimeError("a mistake"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 9 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried\nmore"),
    ],
    ids=["bare", "NumPy", "GPU", "CPU"],
)
def test_too_little_memory(error, capsys, monkeypatch, tmp_path):
    def full(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(data, "load", full)
    said = refused(capsys, "train", "--data", "digits", "--out", tmp_path)
    assert "train: not enough memory" in said and said.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_who_leaves_early_gets_no_traceback(buffered):
    """`summary resnet50 | head -1`; unbuffered, it is a print that fails, else the last flush."""
    child = subprocess.Popen(
        [sys.executable, *([] if buffered else ["-u"]), "-m", "resnet_lib", "summary", "resnet50"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait(timeout=120) == 141


def test_an_output_folder_with_a_run_in_it(capsys, trained, pictures):
    before = {p.name: p.read_bytes() for p in trained[0].iterdir()}
    error = refused(capsys, "train", "--data", pictures, "--out", trained[0])
    assert f"{trained[0]} already holds a run" in error and "--overwrite" in error
    assert {p.name: p.read_bytes() for p in trained[0].iterdir()} == before


def test_an_output_folder_that_is_a_file(capsys, pictures, tmp_path):
    (tmp_path / "file").write_text("x")
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "1", "--out", tmp_path / "file"]
    assert str(tmp_path / "file") in refused(capsys, *argv)


@pytest.mark.parametrize("kind", ["file", "below a file", "not permitted", "read-only"])
def test_an_unusable_output_folder_is_found_before_training(kind, capsys, monkeypatch, tmp_path):
    def never(*_args, **_kwargs):
        raise AssertionError("the training was started")

    def forbidden(*_args, **_kwargs):  # tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(train, "fit_and_test", never)
    (tmp_path / "file").write_text("x")
    out = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "run"}
    out = out.get(kind, tmp_path / "new" / "run")
    if kind == "not permitted":
        monkeypatch.setattr(Path, "mkdir", forbidden)
    elif kind == "read-only":
        monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    error = refused(capsys, "train", "--data", "digits", *SMALL, "--out", out)
    assert f"--out {out}: cannot be used as a folder" in error and error.count("\n") == 1
    assert kind in ("file", "below a file") or "(Permission denied)" in error
    assert (tmp_path / "file").read_text() == "x"


def test_training_that_diverges(capsys, pictures, tmp_path):
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "3", "--lr", "1e30"]
    error = refused(capsys, *argv, "--warmup", "0", "--out", tmp_path)
    assert "learning rate is too high" in error


def test_a_download_that_fails(capsys, monkeypatch, tmp_path):
    def offline(*_args, **_kwargs):
        raise data.DownloadError("no source delivered cifar-10: put it there by hand")

    monkeypatch.setattr(data, "load", offline)
    error = refused(capsys, "train", "--data", "cifar10", "--out", tmp_path)
    assert "put it there by hand" in error


def test_a_full_disk(capsys, monkeypatch, pictures, tmp_path):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    argv = ["train", "--data", pictures, *SMALL, "--epochs", "1", "--out", tmp_path]
    assert "No space left on device" in refused(capsys, *argv)


def test_a_folder_with_a_broken_picture_is_refused_before_training(capsys, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "copy")
    (tmp_path / "copy" / "ring" / "note.jpg").write_text("this is a text")
    error = refused(capsys, "train", "--data", tmp_path / "copy", "--out", tmp_path / "out")
    assert "ring/note.jpg" in error and not (tmp_path / "out").exists()


def test_classes_that_do_not_fit(capsys, trained, pictures, tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("disc", "plus", "square"):
        shutil.copytree(pictures / "ring", tmp_path / "other" / name)
    error = refused(capsys, "evaluate", trained[0] / "best.pt", "--data", tmp_path / "other")
    assert "'ring'" in error and "'square'" in error and "was trained on the classes" in error


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("kind", ["missing", "text", "cut", "bare"])
def test_weights_that_cannot_be_used(command, kind, capsys, trained, pictures, tmp_path):
    weights = tmp_path / "net.pt"
    words = "not a readable weights file"
    if kind == "missing":
        words = "there is no such weights file"
    elif kind == "text":
        weights.write_text("not weights")
    elif kind == "cut":
        weights.write_bytes((trained[0] / "best.pt").read_bytes()[:5000])
    else:
        torch.save(create("resnet20").state_dict(), weights)
        words = "does not say model, classes, shape, mean, std"
    picture = pictures / "ring" / "00.png"
    argv = {"evaluate": [weights, "--data", pictures], "predict": [picture, "--weights", weights]}
    error = refused(capsys, command, *argv[command])
    assert words in error and str(weights) in error


def test_weights_whose_net_cannot_be_built(capsys, pictures, tmp_path, trained):
    state, meta = checkpoint.load(trained[0] / "best.pt")
    for options in ({"depth": 9}, {"widths": 3}, {"widths": [1, 2]}):
        checkpoint.save(tmp_path / "net.pt", state, meta | {"options": options})
        picture = pictures / "ring" / "00.png"
        error = refused(capsys, "predict", picture, "--weights", tmp_path / "net.pt")
        assert "its net cannot be built" in error


def test_a_name_of_weights_that_do_not_come_with_the_package(capsys, pictures):
    error = refused(capsys, "predict", pictures / "ring" / "00.png", "--weights", "resnet999.pt")
    assert "resnet999.pt: no such file" in error and "there are: " in error


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "tiny", "folder"])
def test_pictures_that_cannot_be_used(kind, capsys, trained, tmp_path):
    path = tmp_path / "picture.jpg"
    if kind == "text":
        path.write_text("this is a text")
    elif kind == "empty":
        path.touch()
    elif kind == "tiny":
        Image.new("RGB", (3, 3)).save(path)
    elif kind == "folder":
        path.mkdir()
    error = refused(capsys, "predict", path, "--weights", trained[0] / "best.pt")
    assert str(path) in error and "Fix: " in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["predict", "a.png", "--top", "0"], "--top must be at least 1"),
        (["predict", "a.png", "b.png", "--figure", "c.png"], "one picture"),
        (["summary", "resnet19"], "there is no model 'resnet19'"),
        (["summary", "resnet20", "--option", "shortcut=D"], "shortcut='D' is not known"),
        (["summary", "resnet20", "--input", "1", "32", "32"], "(batch, 3, height, width)"),
        (["summary", "resnet20", "--input", "3", "0", "32"], "at least 1"),
        (["summary", "resnet20", "--input", "3", "-4", "32"], "at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_other_commands_refuse(argv, words, capsys):
    assert words in refused(capsys, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["train"],
        ["train", "--data", "digits"],
        ["train", "--data", "digits", "--out", "x", "--epochs", "many"],
        ["train", "--data", "digits", "--out", "x", "--schedule", "zigzag"],
        ["train", "--data", "digits", "--out", "x", "--nonsense"],
        ["train", "--data", "digits", "--out", "x", "--resume", "--overwrite"],
        ["train", "--data", "digits", "--out", "x", "--optimizer", "lion"],
        ["train", "--data", "digits", "--out", "x", "--precision", "fp8"],
        ["train", "--data", "digits", "--out", "x", "--ema", "much"],
        ["train", "--data", "digits", "--out", "x", "--accumulate", "1.5"],
        ["train", "--data", "digits", "--out", "x", "--compile", "yes"],
        ["evaluate", "x.pt"],
        ["evaluate", "x.pt", "--data", "digits", "--part", "valid"],
        ["predict"],
        ["summary", "resnet20", "--input", "3", "32"],
    ],
    ids=" ".join,
)
def test_the_parser_refuses(argv, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(argv)
    error = capsys.readouterr().err
    assert left.value.code == 2 and "usage: " in error and ": error: " in error


def test_bad_input_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "resnet_lib", "predict", "no.jpg", "--weights", "no.pt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("resnet_lib predict: no.pt") and done.stderr.count("\n") == 1


def test_stopped_by_the_reader(monkeypatch, capsys, pictures, tmp_path):
    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit_and_test", stop)
    argv = ["train", "--data", str(pictures), "--out", str(tmp_path)]
    assert cli.main(argv) == 130
    assert "what was saved stays" in capsys.readouterr().err


# --- the book's own small net

OWN = Path(str(files("resnet_lib") / "assets" / predict.BOOKS_OWN_NET))
JPEGS = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"
needs_own = pytest.mark.skipif(
    not OWN.is_file(), reason=f"the book's own net is not there yet: resnet_lib/assets/{OWN.name}"
)


@needs_own
def test_the_books_own_net_opens_and_fits_its_record():
    own = predict.open_net()
    record = records.read(OWN.stem)
    for key in ("model", "options", "classes", "shape", "mean", "std", "data", "data_fingerprint"):
        assert own.meta[key] == record[key], key
    assert len(own.meta["classes"]) == own.net.fc.out_features == 10
    assert own.meta["shape"] == [own.net.in_channels, 32, 32] and not own.net.training
    assert all(v.isfinite().all() for v in own.net.state_dict().values())
    assert len(record["history"]) == record["recipe"]["epochs"]
    assert record["train_pictures"] + record["valid_pictures"] == 50_000
    assert record["test"]["pictures"] == 10_000 and record["test"]["best"]["accuracy"] > 50
    assert "JPEG" in record["data"]  # never to be taken for the original's numbers


@needs_own
def test_predict_takes_the_books_own_net_by_itself(pictures):
    status, said = call("predict", pictures / "ring" / "00.png", "--top", "10")
    assert status == 0 and "JPEG copy" in said and said.count(" %") == 10


@needs_own
@pytest.mark.skipif(not JPEGS.is_file(), reason=f"no {JPEGS.name} beside the repository")
def test_the_books_own_net_is_as_good_as_its_record_says():
    own = predict.open_net()
    pixels, labels = [], []
    with tarfile.open(JPEGS, "r|xz") as archive:
        for entry in archive:
            parts = Path(entry.name).parts
            if parts[1:2] != ("test",) or not entry.isfile() or int(Path(parts[-1]).stem) % 20:
                continue
            with Image.open(io.BytesIO(archive.extractfile(entry).read())) as image:
                pixels.append(torch.tensor(np.asarray(image.convert("RGB"))).permute(2, 0, 1))
            labels.append(own.meta["classes"].index(parts[2]))
    assert len(labels) == 500 and set(Counter(labels).values()) == {50}
    chances = predict.predict_pixels(own, torch.stack(pixels))
    share = (chances.argmax(1) == torch.tensor(labels)).double().mean().item()
    recorded = records.read(OWN.stem)["test"]["best"]["accuracy"] / 100
    three_sigma = 3 * math.sqrt(recorded * (1 - recorded) / 500)
    assert abs(share - recorded) < three_sigma, f"{share:.1%} here, {recorded:.1%} recorded"
