"""Simulation time of a converted VGG15 on CIFAR-10: evospike, SpikingJelly, snnTorch, BindsNET and
a plain PyTorch loop.

Needs Python 3.10 or later with `pip install torch safetensors pillow spikingjelly snntorch bindsnet`,
Rust, a model and the images it is tested on. From the repository root:

    python tests/benchmarks/simulation.py --model vgg15.safetensors --data cifar10

MODEL is a VGG15 saved by PyTorch, batch normalisation unfolded; beside it are its thresholds
(`MODEL.json`), its accuracy after every timestep (`MODEL-curves.csv`) and the numbers of the test
images (`test-subset-1000.txt`). DATA holds the images as `test/CLASS/NNNN.jpg`.

All systems simulate the same network: integrate-and-fire neurons, thresholds at the 99.9th
percentile, soft reset, initial membrane potential 0, direct input coding (the current of the first
layer is computed once), and the sum of the output currents as the result. Gradients are off.
Systems take turns, batch by batch; the median seconds per batch go to
`results/benchmarks/simulation.csv`. The accuracy after every timestep must equal that of the other
systems and the stored one, but for images that the order of floating-point sums decides.
"""

import argparse
import csv
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Served, warn_of_load, write_table
from PIL import Image
from safetensors import safe_open
from torch.nn import functional

PERCENTILE = "99.9"
TOLERANCE = 0.005  # largest difference in accuracy after any timestep


def load_network(model):
    """Layers (weight, bias, pooled, threshold) with batch normalisation folded, and the mean and
    standard deviation of the pixels. The weights of a layer contain the charge of the spikes that
    arrive, the threshold of the layer before."""
    with safe_open(model, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    thresholds = json.loads(model.with_suffix(".json").read_text())[f"thresholds_{PERCENTILE}"]
    numbers = sorted(
        int(name.split(".")[1])
        for name, tensor in tensors.items()
        if name.startswith("f.") and tensor.dim() == 4
    )
    names = [(f"f.{k}", f"f.{k + 1}") for k in numbers] + [("fc1", "bn")]
    # Convolution, norm, ReLU, and a pool where the next convolution is four places on.
    following = numbers[1:] + [numbers[-1] + 4]
    pooled = [after - k == 4 for k, after in zip(numbers, following)] + [False]
    layers, charge = [], 1.0
    for (linear, norm), pool, threshold in zip(names, pooled, thresholds, strict=True):
        deviation = torch.sqrt(tensors[f"{norm}.running_var"] + float(metadata["bn_eps"]))
        scale = tensors[f"{norm}.weight"] / deviation
        weight = tensors[f"{linear}.weight"]
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1)) * charge
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
        layers.append((weight, bias, pool, threshold))
        charge = threshold
    layers.append((tensors["fc2.weight"] * charge, None, False, None))
    mean, deviation = (
        torch.tensor([float(x) for x in metadata[name].split(",")]).reshape(3, 1, 1)
        for name in ("mean", "std")
    )
    return layers, mean, deviation


def load_images(data, numbers, mean, deviation):
    files = [
        (file, label)
        for label, folder in enumerate(sorted((data / "test").iterdir()))
        for file in sorted(folder.iterdir())
    ]
    chosen = [files[i] for i in numbers]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in chosen])
    pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return ((pixels - mean) / deviation).contiguous(), torch.tensor([label for _, label in chosen])


def current(layer, x):
    """Input current of a layer of neurons or the output."""
    weight, bias, pooled, _ = layer
    if weight.dim() == 4:
        x = functional.conv2d(x, weight, bias, padding=1)
        return functional.avg_pool2d(x, 2) if pooled else x
    return functional.linear(x.flatten(1), weight, bias)


class PlainLoop:
    """Loop over timesteps, in place where possible."""

    def __init__(self, layers, timesteps):
        self.layers, self.timesteps = layers, timesteps

    def run(self, images):
        """Sum of the output currents after every timestep: [timesteps, images, classes]."""
        first = current(self.layers[0], images)
        potentials = [0.0] * (len(self.layers) - 1)
        total, totals = 0.0, []
        for _ in range(self.timesteps):
            x = first
            for i, (_, _, _, threshold) in enumerate(self.layers[:-1]):
                x = x if i == 0 else current(self.layers[i], x)
                v = potentials[i] = x.add_(potentials[i]) if i > 0 else x + potentials[i]
                x = (v >= threshold).float()
                v.sub_(x, alpha=threshold)
            total = total + current(self.layers[-1], x)
            totals.append(total)
        return torch.stack(totals)


class SnnTorch:
    """snnTorch, which resets with the next timestep's input: after the spike, as the others."""

    def __init__(self, layers, timesteps):
        import snntorch

        self.layers, self.timesteps = layers, timesteps
        self.neurons = [
            snntorch.Leaky(beta=1.0, threshold=threshold, reset_mechanism="subtract")
            for *_, threshold in layers[:-1]
        ]

    def run(self, images):
        first = current(self.layers[0], images)
        potentials = [torch.zeros(1) for _ in self.neurons]
        total, totals = 0.0, []
        for _ in range(self.timesteps):
            x = first
            for i, neurons in enumerate(self.neurons):
                x = x if i == 0 else current(self.layers[i], x)
                x, potentials[i] = neurons(x, potentials[i])
            total = total + current(self.layers[-1], x)
            totals.append(total)
        return torch.stack(totals)


class SpikingJelly:
    """SpikingJelly in multi-step mode: all timesteps of a layer before the next."""

    def __init__(self, layers, timesteps):
        from spikingjelly.activation_based import layer as stateless, neuron

        self.first, self.timesteps = layers[0], timesteps
        modules = []
        for i, (weight, bias, pooled, threshold) in enumerate(layers):
            if i > 0:
                outputs, inputs = weight.shape[:2]
                if weight.dim() == 4:
                    module = stateless.Conv2d(inputs, outputs, 3, padding=1, step_mode="m")
                else:
                    if layers[i - 1][0].dim() == 4:
                        modules.append(stateless.Flatten(step_mode="m"))
                    module = stateless.Linear(inputs, outputs, bias is not None, step_mode="m")
                module.weight.data = weight
                if bias is not None:
                    module.bias.data = bias
                modules += [module] + ([stateless.AvgPool2d(2, step_mode="m")] if pooled else [])
            if threshold is not None:
                modules.append(neuron.IFNode(threshold, None, step_mode="m"))
        self.net = torch.nn.Sequential(*modules).eval()

    def run(self, images):
        from spikingjelly.activation_based import functional as sj

        sj.reset_net(self.net)
        first = current(self.first, images)
        return self.net(first.repeat(self.timesteps, 1, 1, 1, 1)).cumsum(0)


class BindsNet:
    """BindsNET with the soft-reset neurons of its conversion package. It has no average pooling: a
    convolution and the pooling after it become one 4 x 4 convolution with stride 2."""

    def __init__(self, layers, timesteps):
        from bindsnet.conversion import SubtractiveResetIFNodes
        from bindsnet.network import Network
        from bindsnet.network.monitors import Monitor
        from bindsnet.network.topology import Connection, Conv2dConnection

        self.first, self.timesteps = layers[0], timesteps
        self.net = Network(learning=False)
        side, before = 32, None
        for i, (weight, bias, pooled, threshold) in enumerate(layers):
            outputs = weight.shape[0]
            side = side // 2 if pooled else side
            nodes = SubtractiveResetIFNodes(
                shape=[outputs, side, side] if weight.dim() == 4 else [outputs],
                thresh=math.inf if threshold is None else threshold,
                reset=0.0,
                refrac=0,
            )
            self.net.add_layer(nodes, str(i))
            bias = torch.zeros(outputs) if bias is None else bias
            if i > 0 and weight.dim() == 4:
                if pooled:
                    corners = [(0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)]
                    weight = sum(functional.pad(weight, corner) for corner in corners) / 4
                size, stride = (4, 2) if pooled else (3, 1)
                link = Conv2dConnection(before, nodes, size, stride, padding=1, w=weight, b=bias)
                self.net.add_connection(link, str(i - 1), str(i))
            elif i > 0:
                link = Connection(before, nodes, w=weight.T.contiguous(), b=bias)
                self.net.add_connection(link, str(i - 1), str(i))
            before = nodes
        self.totals = Monitor(before, ["v"], time=timesteps)
        self.net.add_monitor(self.totals, "totals")

    def run(self, images):
        self.net.reset_state_variables()
        first = current(self.first, images).expand(self.timesteps, -1, -1, -1, -1)
        self.net.run({"0": first}, time=self.timesteps, one_step=True)
        return self.totals.get("v")


class Python:
    def __init__(self, simulator, images, labels):
        self.simulator, self.images, self.labels = simulator, images, labels

    def measure(self, first, count):
        images, labels = (x[first : first + count] for x in (self.images, self.labels))
        with torch.no_grad():
            start = time.perf_counter()
            predictions = self.simulator.run(images).argmax(2)
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "correct": (predictions == labels).sum(1).tolist()}


def decode(data, to):
    """Writes the test images as PNG, since JPEG decoders differ in pixels."""
    for file in (data / "test").glob("*/*.jpg"):
        png = (to / file.relative_to(data)).with_suffix(".png")
        png.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(png)


class Evospike:
    """Answers to a range of the subset: `seconds`, `correct` (number after every timestep),
    `operations` and `rates` (per layer)."""

    def __init__(self, arguments, data):
        options = [f"--model={arguments.model}", f"--data={data}"]
        options.append(f"--timesteps={arguments.timesteps}")
        self.served = Served("simulation", arguments.threads, options)

    def measure(self, first, count):
        return self.served.ask(f"{first} {count}")


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--model", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--data", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--timesteps", type=int, default=100)
    parser.add_argument("--images", type=int, default=1000, help="of the test subset")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warn_of_load()
    torch.set_num_threads(arguments.threads)
    timesteps = arguments.timesteps
    layers, mean, deviation = load_network(arguments.model)
    numbers = (arguments.model.parent / "test-subset-1000.txt").read_text().split()
    numbers = [int(number) for number in numbers[: arguments.images]]
    images, labels = load_images(arguments.data, numbers, mean, deviation)
    simulators = {
        "SpikingJelly": SpikingJelly,
        "snnTorch": SnnTorch,
        "BindsNET": BindsNet,
        "PyTorch loop": PlainLoop,
    }
    with tempfile.TemporaryDirectory() as decoded:
        decode(arguments.data, Path(decoded))
        systems = {"evospike": Evospike(arguments, decoded)}
        systems["evospike"].measure(0, 1)  # once it answers, it has read the images
    for name, simulator in simulators.items():
        systems[name] = Python(simulator(layers, timesteps), images, labels)

    seconds = {name: [] for name in systems}
    correct = {name: np.zeros(timesteps, int) for name in systems}
    activity = []
    firsts = range(0, len(numbers), arguments.batch)
    for turn, first in enumerate([firsts[0], *firsts]):  # the first batch twice, to warm up
        for name in systems if turn % 2 else reversed(systems):
            answer = systems[name].measure(first, min(arguments.batch, len(numbers) - first))
            if turn > 0:
                seconds[name].append(answer["seconds"])
                correct[name] += answer["correct"]
                if name == "evospike":
                    activity.append(answer)

    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    header = ("system", "images", "timesteps", "seconds", "ratio")
    rows = []
    for name in ["evospike", *simulators]:
        ratio = medians[name] / medians["evospike"]
        rows.append((name, arguments.batch, timesteps, f"{medians[name]:.4f}", f"{ratio:.2f}"))
    write_table("simulation.csv", header, rows)
    taken = sum(answer["seconds"] for answer in activity)
    operations = sum(answer["operations"] for answer in activity)
    print(f"evospike: {len(numbers) * timesteps / taken:,.0f} image-timesteps a second")
    print(f"evospike: {operations / taken / 1e9:.1f} G synaptic operations a second")
    rates = np.mean([answer["rates"] for answer in activity], axis=0)
    print("spikes a neuron and timestep, %:", " ".join(f"{100 * rate:.1f}" for rate in rates))
    check(correct, arguments.model, len(numbers))


def check(correct, model, images):
    """Ends the program if the accuracies of two systems differ after any timestep."""
    reference = "PyTorch loop"
    curves = dict(correct)
    stored = model.with_name(f"{model.stem}-curves.csv")
    with stored.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["percentile"] == PERCENTILE]
    timesteps = min(len(rows), len(correct[reference]))
    if images == 1000:
        curves["stored curve"] = np.array([round(1000 * float(row["accuracy"])) for row in rows])
    differ = False
    for name, curve in curves.items():
        most = np.abs(curve[:timesteps] - correct[reference][:timesteps]).max()
        right = f"{curve[timesteps - 1]} of {images} right after {timesteps} timesteps"
        print(f"{name}: {right}, at most {most} more or fewer than the {reference} after any")
        differ |= most > TOLERANCE * images
    if differ:
        sys.exit("the accuracies differ: these are not the same networks")


if __name__ == "__main__":
    main()
