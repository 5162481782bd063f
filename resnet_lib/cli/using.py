"""The commands that use a net: evaluate, predict, summary."""

import argparse

import torch

from .. import FACTORIES, measure, plots, predict, train
from .. import data as data_module
from .arguments import DATA_HELP, build, command, parse_options, pick_device


def add(commands) -> None:
    """Add the three commands to the parser."""
    e = command(
        commands,
        "evaluate",
        run_evaluate,
        "measure a trained net on a data set",
        "Loss and accuracy of a trained net, each picture once, without augmentation.",
    )
    e.add_argument("weights", help="best.pt of a run, or the name of published weights")
    e.add_argument("--data", required=True, help=DATA_HELP)
    e.add_argument("--part", choices=("test", "train"), default="test", help="which pictures")
    e.add_argument("--device", default="auto", help="auto, cpu, cuda")

    p = command(
        commands,
        "predict",
        run_predict,
        "name what is on a picture file",
        "Print the most probable classes of picture files, and draw them.",
    )
    p.add_argument("pictures", nargs="+", help="picture files (jpg, png, webp, ...)")
    p.add_argument("--weights", default=predict.BOOKS_OWN_NET, help="a weights file")
    p.add_argument("--top", type=int, default=5, help="how many classes to print")
    p.add_argument("--figure", help="write picture and probabilities to this file (.png, .svg)")

    s = command(
        commands,
        "summary",
        run_summary,
        "layers, shapes, parameters and MACs of a net",
        "One line per layer: output shape, parameters, multiply-accumulates.",
    )
    s.add_argument("model", nargs="?", help="for example resnet50")
    s.add_argument("--list", action="store_true", help="only list the models")
    s.add_argument("--input", type=int, nargs=3, metavar=("C", "H", "W"), help="input shape")
    s.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="see train")


def run_evaluate(a: argparse.Namespace) -> None:
    """The `evaluate` command."""
    trained = predict.open_net(a.weights)
    # As in training: the seed decided which pictures of an undivided folder are for testing.
    recipe = trained.meta.get("recipe", {})
    seed, batch_size = recipe.get("seed", 0), min(500, recipe.get("batch_size", 500))
    data = data_module.load(a.data, size=trained.meta["shape"][1], seed=seed)
    if data.classes != trained.meta["classes"]:
        raise ValueError(
            f"{a.weights} was trained on the classes {trained.meta['classes']}, but {a.data} "
            f"has {data.classes}"
        )
    trained.net.to(pick_device(a.device))
    split = getattr(data, a.part)
    mean, std = trained.meta["mean"], trained.meta["std"]
    found = train.evaluate(trained.net, split, mean=mean, std=std, batch_size=batch_size)
    right = round(found.accuracy * found.total / 100)
    print(
        f"{data.name}, {a.part} part: accuracy {found.accuracy:.2f} % "
        f"({right} of {found.total}), loss {found.loss:.4f}"
    )


def run_predict(a: argparse.Namespace) -> None:
    """The `predict` command."""
    if a.top < 1:
        raise ValueError("--top must be at least 1")
    if a.figure and len(a.pictures) > 1:
        raise ValueError("--figure draws one picture; call predict once for each")
    trained = predict.open_net(a.weights)
    print(f"net: {trained.meta['model']}, trained on {trained.meta['data']}")
    for path in a.pictures:
        found = predict.predict_file(trained, path, a.top)
        print(path)
        for name, chance in found.ranking:
            print(f"  {name:<16} {100 * chance:6.2f} %")
        if a.figure:
            plots.save(lambda f, p=found: plots.draw_prediction(f, p.pixels, p.ranking), a.figure)
            print(f"figure written to {a.figure}")


def run_summary(a: argparse.Namespace) -> None:
    """The `summary` command."""
    if a.list or not a.model:
        print("\n".join(FACTORIES))
        return
    net = build(a.model, parse_options(a.option))
    cifar = isinstance(net.maxpool, torch.nn.Identity)
    side = 32 if cifar else 224
    shape = tuple(a.input) if a.input else (net.in_channels, side, side)
    if min(shape) < 1:
        raise ValueError(f"--input {shape}: all three numbers must be at least 1")
    rows = measure.layer_table(net, shape)
    print(f"{a.model}, input {shape}")
    print(f"{'layer':<28}{'kind':<18}{'output':>18}{'parameters':>14}{'MACs':>16}")
    for r in rows:
        out = " x ".join(map(str, r.shape))
        print(f"{r.name:<28}{r.kind:<18}{out:>18}{r.parameters:>14,}{r.macs:>16,}")
    total = sum(r.macs for r in rows)
    print(f"{measure.count_parameters(net):,} parameters, {total:,} MACs for one picture")
