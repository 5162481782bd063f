"""What precision, memory format and torch.compile are worth on this machine, as ratios.

    python benchmarks/training.py [MODEL] [BATCH] [SIDE] [ROUNDS]

Trains one net on one batch of random pictures in several ways, in turn, so that a disturbance
hits all alike. Prints pictures a second of the plain fp32 way, and for each other way how many
times as fast it is: median and range over the rounds. On a GPU also the peak memory.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F

from resnet_lib import create, records
from resnet_lib.recipe import Recipe, make_optimizer
from resnet_lib.train import autocast


class Way:
    """One way to train: its own net and optimiser, so that nothing is converted in between."""

    def __init__(self, model, shape, device, precision, channels_last, compiled):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        options = {"stem": "cifar"} if shape[-1] < 64 else {}
        self.net = create(model, num_classes=10, **options).to(device, memory_format=layout)
        self.forward = torch.compile(self.net) if compiled else self.net
        self.optimizer = make_optimizer(self.net, Recipe())
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.x = torch.randn(shape, device=device).contiguous(memory_format=layout)
        self.y = torch.randint(0, 10, shape[:1], device=device)
        self.device, self.precision = device, precision

    def seconds(self, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            with autocast(self.device, self.precision):
                loss = F.cross_entropy(self.forward(self.x), self.y)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "resnet20"
    batch, side, rounds = ([int(a) for a in sys.argv[2:]] + [128, 32, 5][len(sys.argv[2:]) :])[:3]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = 20 if device.type == "cuda" else 2
    cases = [(p, last, False) for p in ("fp32", "bf16", "fp16") for last in (False, True)]
    if device.type == "cpu":  # emulated there, and very slow
        cases = [case for case in cases if case[0] != "fp16"]
    else:
        cases += [(p, True, True) for p in ("fp32", "bf16")]
    threads = torch.get_num_threads()
    print(f"{records.device_name(device)}, torch {torch.__version__}, {threads} thread(s)")
    print(f"{model}, {batch} pictures of {side} px a step, {rounds} rounds")
    ways, peaks = {}, {}
    for case in cases:
        ways[case] = Way(model, (batch, 3, side, side), device, *case)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ways[case].seconds(3)  # warm-up, and the compiler
        peaks[case] = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0
    times = {case: [] for case in cases}
    for _ in range(rounds):
        for case, way in ways.items():
            times[case].append(way.seconds(steps))
    base = times[cases[0]]
    speed = batch * steps / statistics.median(base)
    print(f"fp32, contiguous, eager: {speed:,.0f} pictures a second")
    for precision, last, compiled in cases[1:]:
        ratios = [a / b for a, b in zip(base, times[precision, last, compiled], strict=True)]
        words = f"{precision} {'channels_last' if last else 'contiguous':14}"
        words += f"{'compiled' if compiled else 'eager':9}"
        memory = f"  {peaks[precision, last, compiled]:,.0f} MiB" if any(peaks.values()) else ""
        low, high = min(ratios), max(ratios)
        print(f"{words}{statistics.median(ratios):6.2f} x [{low:.2f}, {high:.2f}]{memory}")


if __name__ == "__main__":
    main()
