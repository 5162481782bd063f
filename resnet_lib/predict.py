"""From a weights file and a picture file to class names with probabilities."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import checkpoint, models, records
from .data import fit_picture, normalise, open_picture

BOOKS_OWN_NET = "resnet20-cifar10-jpeg.safetensors"


@dataclass(frozen=True)
class Trained:
    """A net ready for use, in eval mode, with what it needs to read a picture.

    `meta` holds classes, shape (C, H, W), mean, std, and what the net was trained on.
    """

    net: nn.Module
    meta: dict


@dataclass(frozen=True)
class Prediction:
    """The net's opinion on one picture: classes, most probable first, and what it looked at."""

    ranking: list[tuple[str, float]]
    pixels: Tensor  # uint8 (C, H, W), after resizing and cropping


def open_net(path: str | Path = BOOKS_OWN_NET) -> Trained:
    """Build the net that a weights file describes and load its weights.

    Args:
        path: a file written by `train`, or the name of one that comes with the package.

    Raises:
        checkpoint.CheckpointError: if the file cannot be read, does not fit, or does not say
            which net it belongs to, or contradicts itself.
    """
    if not Path(path).exists() and Path(path).parent == Path("."):
        try:
            path = records.asset(Path(path).name)
        except FileNotFoundError as error:
            raise checkpoint.CheckpointError(f"{path}: no such file, and {error}") from None
    state, meta = checkpoint.load(path)
    missing = [k for k in ("model", "classes", "shape", "mean", "std", "data") if k not in meta]
    if missing:
        raise checkpoint.CheckpointError(
            f"{path}: holds weights but does not say {', '.join(missing)}. It was not written by "
            "`resnet_lib train`; build the net yourself and use checkpoint.load_weights"
        )
    try:
        net = models.create(meta["model"], **meta.get("options", {}))
    except Exception as error:  # nonsense in the options can fail anywhere
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise checkpoint.CheckpointError(f"{path}: its net cannot be built: {first}") from None
    if wrong := _contradiction(net, meta):
        raise checkpoint.CheckpointError(f"{path}: {wrong}")
    checkpoint.load_weights(net, state, str(path))
    return Trained(net.eval(), meta)


def _contradiction(net: nn.Module, meta: dict) -> str:
    """What `meta` says that cannot be, for this net; "" if all is well."""

    def numbers(value, kind, least) -> bool:
        return isinstance(value, list) and all(
            isinstance(v, kind) and not isinstance(v, bool) and v >= least for v in value
        )

    classes, shape = meta["classes"], meta["shape"]
    if net.fc is None:
        return "its net has no fc layer (include_top=False), so it cannot name classes"
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        return "its classes are not a list of names"
    if len(classes) != net.fc.out_features:
        return f"it names {len(classes)} classes, but its net has {net.fc.out_features} outputs"
    if not numbers(shape, int, 1) or len(shape) != 3 or shape[0] != net.in_channels:
        return f"its shape is {shape}, not [{net.in_channels}, height, width]"
    for name in ("mean", "std"):
        if not numbers(meta[name], (int, float), 0) or len(meta[name]) != shape[0]:
            return f"its {name} is {meta[name]}, not one number for each of {shape[0]} channels"
    recipe = meta.get("recipe", {})
    if not isinstance(recipe, dict) or not numbers([recipe.get("batch_size", 1)], int, 1):
        return f"its recipe is {recipe}"
    return ""


@torch.no_grad()
def predict_pixels(trained: Trained, pixels: Tensor) -> Tensor:
    """Probabilities (N, classes) for uint8 pictures (N, C, H, W) of the net's own size."""
    trained.net.eval()
    device = next(trained.net.parameters()).device
    x = normalise(pixels.to(device), trained.meta["mean"], trained.meta["std"])
    return trained.net(x).float().softmax(1).cpu()


def predict_file(trained: Trained, path: str | Path, top: int = 5) -> Prediction:
    """Name what is on a picture file: the `top` most probable classes.

    The picture is turned as its EXIF tag says, its short side resized to the net's input size,
    and the middle square is used. A grey net (one channel) sees the mean of the three colours.

    Raises:
        ValueError: if the file is missing or is not a picture, naming it.
    """
    channels, size, _ = trained.meta["shape"]
    pixels = torch.tensor(fit_picture(open_picture(path), size)).permute(2, 0, 1)
    if channels == 1:
        pixels = pixels.float().mean(0, keepdim=True).round().to(torch.uint8)
    chances = predict_pixels(trained, pixels[None])[0]
    best = chances.argsort(descending=True)[:top].tolist()
    return Prediction([(trained.meta["classes"][i], chances[i].item()) for i in best], pixels)
