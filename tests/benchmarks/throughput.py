"""Images classified in a second, 1 point below the ANN: spiking networks against PyTorch's ANN.

Needs Python 3.10 or later with `pip install torch spikingjelly snntorch safetensors pillow`, Rust, and
the published binary files of CIFAR-10. From the repository root:

    python tests/benchmarks/throughput.py --data cifar-10

The network is the half-width VGG15 of `results/cifar10`. evospike's rows count everything: input
layer, engine, readout, early exit whose gap is chosen on held-out images. PyTorch infers the ANN of
the same layers, batch normalisation folded, at the best of several batch sizes and both memory
layouts; SpikingJelly and snnTorch simulate them for the timesteps that the best percentile needs to
stay 1 point below the ANN. Their weights are random: the time of dense layers does not depend on
them, so their accuracy is left empty. Systems take turns on the test images; the median rates go to
`results/benchmarks/throughput.csv`, ratios to PyTorch's.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from common import Served, warn_of_load, write_table
from simulation import SnnTorch, SpikingJelly
from torch import nn
from training import vgg15

TIMESTEPS = 93  # of percentile 99.8, in results/cifar10/comparison.csv


def folded(net):
    """The layers of a network with batch normalisation folded, as inference runs them."""
    net.eval()
    layers = []
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = nn.utils.fuse_linear_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


class Ann:
    def __init__(self, batch, layout):
        torch.manual_seed(0)
        self.net = folded(vgg15()).to(memory_format=layout)
        self.images = torch.rand(batch, 3, 32, 32).to(memory_format=layout)

    def measure(self, count):
        batch = len(self.images)
        start = time.perf_counter()
        for _ in range(max(1, count // batch)):
            self.net(self.images)
        return max(1, count // batch) * batch / (time.perf_counter() - start)


def layers_of_vgg15():
    """Layers (weight, bias, pooled, threshold) with random weights."""
    torch.manual_seed(0)
    modules = list(folded(vgg15()))
    layers = []
    for i, module in enumerate(modules):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            pooled = i + 1 < len(modules) and isinstance(modules[i + 1], nn.AvgPool2d)
            last = i + 1 == len(modules)
            weight, bias = module.weight.data, None if last else module.bias.data
            layers.append((weight, bias, pooled, None if last else 1.0))
    return layers


class Simulator:
    def __init__(self, simulator):
        self.simulator = simulator(layers_of_vgg15(), TIMESTEPS)

    def measure(self, count):
        images = torch.rand(count, 3, 32, 32)
        start = time.perf_counter()
        self.simulator.run(images)
        return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--rounds", type=int, default=10, help="a tenth of the test images each")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warn_of_load()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    served = Served("throughput", arguments.threads, [f"--data={arguments.data}"])
    ours = json.loads(served.process.stdout.readline())
    candidates = [
        Ann(batch, layout)
        for batch in (16, 64, 128, 256)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    for candidate in candidates:
        candidate.measure(500)
    ann = max(candidates, key=lambda candidate: candidate.measure(1000))
    simulators = {
        "SpikingJelly, plain, percentile": Simulator(SpikingJelly),
        "snnTorch, plain, percentile": Simulator(SnnTorch),
    }
    rates = {name: [] for name in ["PyTorch, ANN", *ours, *simulators]}
    answers = {name: [] for name in ours}
    size = 10_000 // 10
    for turn in range(-1, arguments.rounds):  # one round to warm up, on the first images again
        first = max(turn, 0) * size
        measured = {"PyTorch, ANN": lambda: ann.measure(size)}
        for name in ours:
            # The long run on a fifth of the images.
            count = size // 5 if "percentile" in name else size

            def measure(name=name, count=count):
                answer = served.ask(f"{name} {first} {count}") | {"images": count}
                if turn >= 0:
                    answers[name].append(answer)
                return count / answer["seconds"]

            measured[name] = measure
        for name, simulator in simulators.items():
            measured[name] = lambda simulator=simulator: simulator.measure(20)
        order = list(measured)
        for name in order if turn % 2 else reversed(order):
            if turn % 3 and name in simulators:
                continue  # slow, and their time does not vary with the images
            rate = measured[name]()
            if turn >= 0:
                rates[name].append(rate)
    pytorch = statistics.median(rates["PyTorch, ANN"])
    rows = []
    for name, own in rates.items():
        rate = statistics.median(own)
        timesteps, accuracy, spikes = {"PyTorch, ANN": (1, "", "")}.get(name, (TIMESTEPS, "", ""))
        if name in answers:
            images = sum(answer["images"] for answer in answers[name])
            total = {
                key: sum(answer[key] for answer in answers[name]) / images
                for key in ("timesteps", "correct", "spikes")
            }
            timesteps, accuracy = round(total["timesteps"], 3), round(100 * total["correct"], 2)
            spikes = round(total["spikes"])
        system, network = name.split(", ", 1)
        rows.append(
            (system, network, timesteps, accuracy, f"{rate:.1f}", f"{rate / pytorch:.3f}", spikes)
        )
    header = ("system", "network", "timesteps_mean", "accuracy_percent", "images_per_second")
    write_table("throughput.csv", (*header, "ratio_to_pytorch_ann", "spikes_per_image"), rows)


if __name__ == "__main__":
    main()
