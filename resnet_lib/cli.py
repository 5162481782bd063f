"""The command line: train, evaluate, predict, summary."""

import argparse
import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from . import FACTORIES, create, measure, plots, predict, records, train
from . import data as data_module

EXAMPLES = """\
examples:
  python -m resnet_lib train --data digits --augment none --epochs 5 --out runs/out/digits
  python -m resnet_lib train --data my_pictures/ --size 64 --model resnet18 --out runs/out/mine
  python -m resnet_lib evaluate runs/out/mine/best.pt --data my_pictures/
  python -m resnet_lib predict cat.jpg                      (the book's own small net)
  python -m resnet_lib predict cat.jpg --weights runs/out/mine/best.pt --figure cat.png
  python -m resnet_lib summary resnet50 --input 3 224 224
"""
DATA_HELP = (
    "digits, shapes10 (both need no download), cifar10, cifar100, or an image folder with "
    "train/<class>/*.jpg and test/<class>/*.jpg, or only <class>/*.jpg (then a fifth of each "
    "class becomes the test set)"
)
WRITTEN = ("best.pt", "last.pt", "history.json", "record.json", "curves.png")  # by `train`
FLAGS, WORDS = ("zero_init_residual", "include_top"), ("stem", "shortcut", "stride_in")
PIP_NAMES = {"sklearn": "scikit-learn", "PIL": "pillow"}  # where they differ from the module's


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 bad input (explained in one message)."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()  # here, so that a reader who has left is noticed here
    except BrokenPipeError:  # | head
        with suppress(OSError):  # what is still in the buffer must not fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports SIGPIPE
    except Exception as error:
        if not (text := explain(error)):
            raise
        print(f"resnet_lib {arguments.command}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was saved stays as it is", file=sys.stderr)
        return 130
    return 0


def explain(error: Exception) -> str:
    """What to tell the reader; "" for an error that can only be a mistake in this package."""
    if isinstance(error, (ValueError, OSError, train.TrainingError, data_module.DownloadError)):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, ImportError):
        name = (error.name or "").split(".")[0]
        if name in ("", __package__):
            return ""
        return f"{first}; install it with pip install {PIP_NAMES.get(name, name)}"
    # The processor's memory is reported by torch as a bare RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in first:
        return f"not enough memory{first and f' ({first[:200]})'}; try smaller pictures or batches"
    return ""


def build_parser() -> argparse.ArgumentParser:
    """The parser with its four commands."""
    raw = argparse.RawDescriptionHelpFormatter
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m resnet_lib",
        description="Train, test, use and inspect residual networks.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, help_, text):
        sub = commands.add_parser(name, help=help_, description=text, formatter_class=defaults)
        sub.set_defaults(run=run)
        return sub

    t = command(
        "train",
        run_train,
        "train a net and draw its curves",
        "Train a net from scratch. A part of the training pictures is kept aside to choose the "
        "best epoch; the test pictures are used once, after training. The output folder gets "
        "best.pt, last.pt, history.json, record.json and curves.png.",
    )
    recipe = train.Recipe()
    t.add_argument("--data", required=True, help=DATA_HELP)
    t.add_argument("--size", type=int, help="side of the square pictures of an image folder")
    t.add_argument("--model", default="resnet20", help="see: python -m resnet_lib summary --list")
    t.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of ResNet, for example shortcut=B or stem=cifar; may be repeated",
    )
    t.add_argument("--epochs", type=int, default=recipe.epochs, help="passes over the pictures")
    t.add_argument("--batch-size", type=int, default=recipe.batch_size, help="pictures per step")
    t.add_argument("--lr", type=float, default=recipe.lr, help="highest learning rate")
    t.add_argument("--momentum", type=float, default=recipe.momentum, help="of SGD")
    t.add_argument("--weight-decay", type=float, default=recipe.weight_decay, help="of SGD")
    t.add_argument("--schedule", choices=train.SCHEDULES, default=recipe.schedule, help="of lr")
    t.add_argument("--warmup", type=float, default=recipe.warmup, help="share of rising steps")
    t.add_argument(
        "--augment",
        default=",".join(recipe.augment),
        help="crop, flip, crop,flip or none. No flips where left and right matter (digits!)",
    )
    t.add_argument("--valid", type=float, default=recipe.valid, help="share kept for validation")
    t.add_argument(
        "--precision",
        choices=train.PRECISIONS,
        default=recipe.precision,
        help="bf16 is faster where the hardware multiplies in it",
    )
    t.add_argument("--channels-last", action="store_true", help="memory format, with bf16")
    t.add_argument("--seed", type=int, default=recipe.seed, help="of weights, split and order")
    t.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    t.add_argument("--threads", type=int, help="CPU threads")
    t.add_argument("--out", required=True, help="folder for what the run writes")
    t.add_argument("--overwrite", action="store_true", help="replace a run that is there")

    e = command(
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
        "summary",
        run_summary,
        "layers, shapes, parameters and MACs of a net",
        "One line per layer: output shape, parameters, multiply-accumulates.",
    )
    s.add_argument("model", nargs="?", help="for example resnet50")
    s.add_argument("--list", action="store_true", help="only list the models")
    s.add_argument("--input", type=int, nargs=3, metavar=("C", "H", "W"), help="input shape")
    s.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="see train")
    return parser


def run_train(a: argparse.Namespace) -> None:
    """The `train` command."""
    out = Path(a.out)
    if not a.overwrite and any((out / name).exists() for name in WRITTEN):
        raise FileExistsError(
            f"{out} already holds a run; name another folder with --out, or add --overwrite"
        )
    if a.threads is not None:
        if a.threads < 1:
            raise ValueError("--threads must be at least 1")
        torch.set_num_threads(a.threads)
    if not 0 <= a.seed < 2**63:
        raise ValueError(f"--seed {a.seed}: must be from 0 to 2**63 - 1")
    augment = () if a.augment in ("none", "") else tuple(a.augment.split(","))
    names = "epochs batch_size lr momentum weight_decay schedule warmup valid precision"
    recipe = train.Recipe(
        **{name: getattr(a, name) for name in names.split()},
        augment=augment,
        channels_last=a.channels_last,
        seed=a.seed,
    )
    if a.model not in FACTORIES:
        create(a.model)  # raises the error that lists the models, before any data is read
    import matplotlib.figure  # noqa: F401  (if it is missing: now, not after the training)

    device = pick_device(a.device)
    data = data_module.load(a.data, size=a.size, seed=a.seed)
    given = {"num_classes": len(data.classes), "in_channels": data.shape[0]}
    options = given | parse_options(a.option)
    torch.manual_seed(a.seed)
    net = build(a.model, options)
    if not net.include_top:
        raise ValueError("--option include_top=false: a net without a head cannot be trained")
    for name, has in given.items():
        if options[name] != has:
            raise ValueError(
                f"--option {name}={options[name]}: {data.name} has {has}; leave it out"
            )
    prepare_folder(out)
    print(f"data     {data.name}: {len(data.train)} training and {len(data.test)} test pictures")
    print(f"classes  {', '.join(f'{i} {c}' for i, c in enumerate(data.classes))}")
    print(f"net      {a.model}, {measure.count_parameters(net):,} parameters")
    print(f"device   {records.device_name(device)}, {torch.get_num_threads()} threads", flush=True)
    _, record = train.fit_and_test(
        net, data, recipe, model=a.model, options=options, device=device, out=out
    )
    plots.save(lambda figure: plots.draw_curves(figure, record["history"]), out / "curves.png")
    test = record["test"]
    print(
        f"test     {test['best']['accuracy']:.2f} % with the weights of epoch "
        f"{test['best_epoch']} (best on validation), {test['last']['accuracy']:.2f} % with the "
        f"last; {test['pictures']} pictures of {data.name}, used once"
    )
    print(f"written  {out}/best.pt last.pt record.json curves.png")


def prepare_folder(out: Path) -> None:
    """Make the folder, try to write in it, remove an old run: its record is not the new net's.

    Raises OSError, naming the folder, if nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        for name in WRITTEN:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        why = "it is not a folder" if out.exists() and not out.is_dir() else error.strerror
        raise OSError(f"--out {out}: cannot be used as a folder to write in ({why})") from None


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


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ValueError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = re.fullmatch(r"cpu|cuda(?::(0|[1-9][0-9]{0,8}))?", name)
    if not found:
        raise ValueError(f"--device {name}: use auto, cpu, cuda or cuda:1")
    if name == "cpu":
        return torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ValueError(f"--device {name}: torch sees no GPU here; use --device cpu")
    if int(found[1] or 0) >= count:
        raise ValueError(f"--device {name}: torch sees {count} GPU(s) here, counted from cuda:0")
    return torch.device(name)


def build(model: str, options: dict) -> torch.nn.Module:
    """The net; a ValueError names the options where they make no sense."""
    try:
        return create(model, **options)
    except (TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{model} cannot be built with {options}: {error}") from None


def parse_options(pairs: list[str]) -> dict:
    """["shortcut=B", "num_classes=4"] -> {"shortcut": "B", "num_classes": 4}.

    Raises:
        ValueError: for a pair without "=", an unknown option, or a value of the wrong kind.
    """
    allowed = ("num_classes", "in_channels", "groups", "width_per_group", "widths", *WORDS, *FLAGS)
    options = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in allowed:
            raise ValueError(f"--option {pair}: write NAME=VALUE with one of {', '.join(allowed)}")
        try:
            value = json.loads({"True": "true", "False": "false"}.get(text, text))
        except ValueError:
            value = text
        for names, kind, wanted in ((FLAGS, bool, "true or false"), (WORDS, str, "a word")):
            if name in names and not isinstance(value, kind):
                raise ValueError(f"--option {pair}: {name} must be {wanted}")
        options[name] = value
    return options
