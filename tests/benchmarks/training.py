"""Training and inference of the half-width batch-normalised VGG15, PyTorch against evospike.

Needs Python 3.10 or later with `pip install torch`, and Rust. From the repository root:

    python tests/benchmarks/training.py

Both systems do the same on the processor: one step of Adam on the cross-entropy of a batch of 128
images of 3 x 32 x 32, and one inference pass. They take turns, measurement by measurement, and the
medians go to `results/benchmarks/training.csv`. PyTorch runs in its default memory layout and in
channels last; ratios are to the faster of the two.
"""

import argparse
import statistics
import time

import torch
from common import Served, warn_of_load, write_table
from torch import nn

BATCH = 128


def vgg15(width=32, hidden=512, classes=10):
    """`Vgg15HalfBn` of src/networks.rs; a convolution with `True` is followed by pooling."""
    a, b, c, d = width, 2 * width, 4 * width, 8 * width
    convolutions = [(a, False), (a, True), (b, False), (b, True)]
    convolutions += [(c, False), (c, False), (c, True)] + 2 * [(d, False), (d, False), (d, True)]
    layers, inputs = [], 3
    for outputs, pooled in convolutions:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.AvgPool2d(2)] if pooled else []
        layers += [nn.ReLU(inplace=True)]
        inputs = outputs
    layers += [nn.Flatten(), nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden)]
    layers += [nn.ReLU(inplace=True), nn.Linear(hidden, classes, bias=False)]
    return nn.Sequential(*layers)


class PyTorch:
    def __init__(self, layout):
        torch.manual_seed(0)
        self.net = vgg15().to(memory_format=layout)
        self.adam = torch.optim.Adam(self.net.parameters(), fused=True)
        self.images = torch.rand(BATCH, 3, 32, 32).to(memory_format=layout)
        self.targets = nn.functional.one_hot(torch.arange(BATCH) % 10, 10).float()

    def measure(self, what):
        step = what == "step"
        self.net.train(step)
        start = time.perf_counter()
        if step:
            loss = nn.functional.cross_entropy(self.net(self.images), self.targets)
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            loss.item()
        else:
            with torch.no_grad():
                self.net(self.images)
        return time.perf_counter() - start


class Evospike:
    def __init__(self, threads):
        self.served = Served("training", threads)

    def measure(self, what):
        return self.served.ask(what)["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warn_of_load()
    torch.set_num_threads(arguments.threads)
    systems = {
        "evospike": Evospike(arguments.threads),
        f"PyTorch {torch.__version__}": PyTorch(torch.contiguous_format),
        f"PyTorch {torch.__version__} channels last": PyTorch(torch.channels_last),
    }
    kinds = {"step": "training step", "pass": "inference pass"}
    seconds = {(what, name): [] for what in kinds for name in systems}
    for turn in range(-2, arguments.rounds):  # two rounds to warm up
        for what in kinds:
            for name in systems if turn % 2 else reversed(systems):
                taken = systems[name].measure(what)
                if turn >= 0:
                    seconds[what, name].append(taken)
    rows = []
    for what, label in kinds.items():
        medians = {name: statistics.median(seconds[what, name]) for name in systems}
        fastest = min(value for name, value in medians.items() if name != "evospike")
        rows += [
            (label, name, f"{value:.4f}", f"{value / fastest:.3f}")
            for name, value in medians.items()
        ]
    write_table("training.csv", ("what", "system", "seconds", "ratio_to_pytorch"), rows)


if __name__ == "__main__":
    main()
