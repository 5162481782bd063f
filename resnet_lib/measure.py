"""Counting what a net costs: parameters and multiply-accumulates (MACs), layer by layer."""

import copy
from dataclasses import dataclass

import torch
from torch import nn


def count_parameters(net: nn.Module) -> int:
    """Number of trainable and frozen weights; buffers (BN's running statistics) do not count."""
    return sum(p.numel() for p in net.parameters())


@dataclass(frozen=True)
class Row:
    """One layer call: dotted name, class, output shape without the batch, own weights, MACs."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


def layer_table(net: nn.Module, input_shape: tuple[int, int, int]) -> list[Row]:
    """One `Row` for each call of a leaf layer, in order of execution, for one picture.

    A MAC is one multiplication with its addition. Convolutions and linear layers are counted;
    BN, ReLU, pooling and additions are not (the convention of He 2015, who calls MACs "FLOPs").
    A weight that belongs to a module with children, not to a layer, is in no row: compare the sum
    with `count_parameters`. The net is copied to the meta device: nothing is computed, and no BN
    statistic moves.

    Args:
        input_shape: (channels, height, width).
    """
    net = copy.deepcopy(net).to("meta").eval()
    rows: list[Row] = []
    counted: set[int] = set()

    def watch(name: str, layer: nn.Module):
        def hook(_module, _inputs, out):
            own = 0 if id(layer) in counted else count_parameters(layer)  # a shared layer: once
            counted.add(id(layer))
            rows.append(
                Row(name, type(layer).__name__, tuple(out.shape[1:]), own, _macs(layer, out))
            )

        return layer.register_forward_hook(hook)

    for name, layer in net.named_modules():
        if not list(layer.children()):
            watch(name, layer)
    with torch.no_grad():
        net(torch.zeros(1, *input_shape, device="meta"))
    return rows


def _macs(layer: nn.Module, out: torch.Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        return out[0].numel() * layer.in_channels // layer.groups * kernel
    if isinstance(layer, nn.Linear):
        return out[0].numel() * layer.in_features
    return 0


def macs(net: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates for one picture of `input_shape` (channels, height, width)."""
    return sum(row.macs for row in layer_table(net, input_shape))
