"""The resident loader against a DataLoader with torchvision's transforms, as a ratio.

    python benchmarks/loader.py [repeats]

Both give normalised batches of 128 random pictures of 32x32, padded, cropped and flipped. The
DataLoader runs in the training process (no workers), which is what a two-core machine has left.
Prints its time divided by the resident loader's, measured in turn: median and range.
"""

import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torchvision.transforms import v2

from resnet_lib.data import Loader, Split

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Pictures(torch.utils.data.Dataset):
    def __init__(self, split: Split):
        self.split = split
        self.change = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i):
        return self.change(self.split.x[i]), self.split.y[i]


def seconds(batches) -> float:
    began = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - began


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    x = torch.randint(0, 256, (5120, 3, 32, 32), dtype=torch.uint8)
    split = Split(x, torch.randint(0, 10, (len(x),)))
    augment = ("crop", "flip")
    ours = Loader(split, 128, mean=MEAN, std=STD, augment=augment, shuffle=True)
    theirs = torch.utils.data.DataLoader(Pictures(split), 128, shuffle=True)
    ratios, batch = [], []
    for epoch in range(repeats):
        mine = seconds(ours.epoch(epoch))
        batch.append(1000 * mine / len(ours))
        ratios.append(seconds(theirs) / mine)
    low, high = min(ratios), max(ratios)
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {repeats} repeats")
    print(f"resident loader: {statistics.median(batch):.1f} ms a batch of 128")
    print(f"DataLoader takes {statistics.median(ratios):.1f} times as long [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    main()
