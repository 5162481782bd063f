"""The `train` command: a recipe from words, one run, its files."""

import argparse
import tempfile
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import torch

from .. import FACTORIES, checkpoint, create, measure, plots, records, run_state, train
from .. import data as data_module
from ..recipe import OPTIMIZERS, PRECISIONS, SCHEDULES, Recipe
from .arguments import DATA_HELP, build, command, parse_options, pick_device

CURVES = "curves.png"
LAST = run_state.LAST
WRITTEN = (run_state.BEST, LAST, checkpoint.previous_of(LAST).name)
WRITTEN += (run_state.HISTORY, run_state.RECORD, CURVES)
RECIPE_HELP = {  # every field of Recipe is an option; a test compares
    "epochs": "passes over the pictures",
    "batch_size": "pictures per step",
    "lr": "highest learning rate",
    "momentum": "of SGD; the first beta of Adam",
    "nesterov": "Nesterov's form of the momentum (SGD)",
    "weight_decay": "how strongly weights are pulled towards 0",
    "schedule": "of the learning rate",
    "warmup": "share of rising steps",
    "augment": "crop, flip, crop,flip or none. No flips where left and right matter (digits!)",
    "valid": "share kept for validation",
    "precision": "bf16 and fp16 are faster where the hardware multiplies in them",
    "channels_last": "memory format, faster with 16 bits",
    "seed": "of weights, split and order",
    "optimizer": "what turns gradients into steps",
    "decay_norm_bias": "weight decay also on biases and batch normalisation",
    "milestones": "for the step schedule: shares of the run after which lr is divided by 10",
    "label_smoothing": "share of each target that is spread over all classes",
    "accumulate": "compute each batch in this many parts, to save memory",
    "ema": "decay of the moving average of the weights, for example 0.999; 0 for none",
    "compile": "torch.compile the net (minutes at first, faster steps afterwards)",
}
CHOICES = {"schedule": SCHEDULES, "precision": PRECISIONS, "optimizer": OPTIMIZERS}


def add(commands) -> None:
    """Add the `train` command to the parser."""
    t = command(
        commands,
        "train",
        run_train,
        "train a net and draw its curves",
        "Train a net. A part of the training pictures is kept aside to choose the best epoch; the "
        "test pictures are used once, after training. The output folder gets best.pt, last.pt, "
        "history.json, record.json and curves.png.",
    )
    t.add_argument("--data", required=True, help=DATA_HELP)
    t.add_argument("--size", type=int, help="side of the square pictures of an image folder")
    t.add_argument(
        "--stream", action="store_true", help="read the pictures of a large folder as needed"
    )
    t.add_argument("--model", default="resnet20", help="see: python -m resnet_lib summary --list")
    t.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of ResNet, for example shortcut=B or stem=cifar; may be repeated",
    )
    for field in fields(Recipe):
        flag, text = f"--{field.name.replace('_', '-')}", RECIPE_HELP[field.name]
        how = {"type": type(field.default)}
        if isinstance(field.default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        elif field.name in CHOICES:
            how = {"choices": CHOICES[field.name]}
        default = field.default
        if isinstance(default, tuple):
            how, default = {"type": _words}, ",".join(map(str, default))
        t.add_argument(flag, default=default, help=text, **how)
    t.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    t.add_argument("--threads", type=int, help="CPU threads")
    t.add_argument("--out", required=True, help="folder for what the run writes")
    t.add_argument("--copy-to", help="second folder for the files of each epoch (a mounted Drive)")
    t.add_argument(
        "--init-from", metavar="FILE", help="begin a new run with the weights of this file"
    )
    again = t.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out")
    again.add_argument("--overwrite", action="store_true", help="replace a run that is there")


def _words(text: str) -> tuple:
    """ "crop,flip" -> ("crop", "flip"), "0.5,0.75" -> (0.5, 0.75), "none" -> ()."""
    if text in ("none", ""):
        return ()
    parts = text.split(",")
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        return tuple(parts)


def run_train(a: argparse.Namespace) -> None:
    """The `train` command."""
    out = Path(a.out).expanduser()
    copy_to = Path(a.copy_to).expanduser() if a.copy_to else None
    if copy_to is not None and copy_to.resolve() == out.resolve():
        raise ValueError(f"--copy-to {copy_to}: is the folder of --out itself; name another one")
    folders = [out] if copy_to is None else [out, copy_to]
    for folder in () if a.overwrite or a.resume else folders:
        if any((folder / name).exists() for name in WRITTEN):
            raise FileExistsError(
                f"{folder} already holds a run; name another folder, go on with it with --resume, "
                "or add --overwrite"
            )
    if a.threads is not None:
        if a.threads < 1:
            raise ValueError("--threads must be at least 1")
        torch.set_num_threads(a.threads)
    recipe = Recipe(**{field.name: getattr(a, field.name) for field in fields(Recipe)})
    if a.model not in FACTORIES:
        create(a.model)  # raises the error that lists the models, before any data is read
    import matplotlib.figure  # noqa: F401  (if it is missing: now, not after the training)

    device = pick_device(a.device)
    data = data_module.load(a.data, size=a.size, seed=a.seed, stream=a.stream)
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
    if a.init_from:  # now, before an old run is removed
        checkpoint.load_weights(net, checkpoint.load(a.init_from)[0], a.init_from)
        if a.overwrite and Path(a.init_from).resolve().parent in [f.resolve() for f in folders]:
            raise ValueError(f"--init-from {a.init_from}: --overwrite would remove it; copy it")
    prepare_folder(out, keep=a.resume)
    if copy_to is not None and a.overwrite:
        with suppress(OSError):  # as every copy: what fails there is no reason to stop
            prepare_folder(copy_to, keep=False)
    print(f"data     {data.name}: {len(data.train)} training and {len(data.test)} test pictures")
    print(f"classes  {', '.join(f'{i} {c}' for i, c in enumerate(data.classes))}")
    print(f"net      {a.model}, {measure.count_parameters(net):,} parameters")
    print(f"device   {records.device_name(device)}, {torch.get_num_threads()} threads", flush=True)
    if a.resume and not any((f / LAST).is_file() for f in folders):
        print(
            f"resume   no {LAST} in {' or '.join(map(str, folders))}: a new run begins", flush=True
        )
    how = {"resume": a.resume, "init_from": a.init_from, "copy_to": copy_to}
    _, record = train.fit_and_test(
        net, data, recipe, model=a.model, options=options, device=device, out=out, **how
    )
    plots.save(lambda figure: plots.draw_curves(figure, record["history"]), out / CURVES)
    test = record["test"]
    print(
        f"test     {test['best']['accuracy']:.2f} % with the weights of epoch "
        f"{test['best_epoch']} (best on validation), {test['last']['accuracy']:.2f} % with the "
        f"last; {test['pictures']} pictures of {data.name}, used once"
    )
    print(f"written  {out}/best.pt last.pt record.json curves.png")


def prepare_folder(out: Path, keep: bool) -> None:
    """Make the folder, try to write in it, remove an old run: its record is not the new net's.

    With `keep` the run that is there stays, to go on with it.

    Raises OSError, naming the folder, if nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        for name in () if keep else WRITTEN:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        why = "it is not a folder" if out.exists() and not out.is_dir() else error.strerror
        raise OSError(f"--out {out}: cannot be used as a folder to write in ({why})") from None
