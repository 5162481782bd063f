"""How waiting threads should wait: seconds for training steps of a small net, as ratios.

    python benchmarks/threads.py [repeats]

Three ways, one after the other in each repeat, each in a process of its own (the setting is read
when the process starts): spin (libgomp's default), spin briefly (GOMP_SPINCOUNT=20000, what
`make book` sets), sleep at once (OMP_WAIT_POLICY=passive). Prints each way's time divided by the
default's in the same repeat: median and range. Run it on a quiet and on a busy machine.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "spin": {},
    "spin briefly": {"GOMP_SPINCOUNT": "20000"},
    "sleep at once": {"OMP_WAIT_POLICY": "passive"},
}
STEPS = """
import time, torch, torch.nn.functional as F
from resnet_lib import ResNet
from resnet_lib.blocks import BasicBlock
torch.manual_seed(0)
net = ResNet(BasicBlock, [2, 2, 2, 2], 10, widths=(16, 32, 64, 128), stem="cifar")
optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9)
x, y = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
for step in range(24):
    if step == 4:
        began = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
print((time.perf_counter() - began) / 20)
"""


def seconds(setting: dict[str, str]) -> float:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    env = clean | setting | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STEPS]
    return float(subprocess.run(command, env=env, capture_output=True, check=True).stdout)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):
        times = {name: seconds(setting) for name, setting in WAYS.items()}
        for name in WAYS:
            found[name].append(times[name] / times["spin"])
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{os.cpu_count()} cores, load {load}, {repeats} repeats; time relative to spinning")
    for name, ratios in found.items():
        low, high = min(ratios), max(ratios)
        print(f"{name:14} {statistics.median(ratios):.2f}  [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
