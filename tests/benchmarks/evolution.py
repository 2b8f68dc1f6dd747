"""Differential evolution of the thresholds of a converted VGG15 on CIFAR-10: SciPy with
SpikingJelly against evospike.

Needs what `simulation.py` needs, and `pip install scipy`. From the repository root:

    python tests/benchmarks/evolution.py --model vgg15.safetensors --data cifar10

The same network, genome (a factor for each layer's threshold, 0.7 to 1.2), strategy (best1bin, 14
members, deferred updating), number of images and timesteps, and the same objective, the latency,
but other images of the same test set, and other random numbers. Every evaluation takes Python the
same time, so a few are measured; evospike, whose trials stop once they cannot beat their parents,
runs the whole evolution. Seconds go to `results/benchmarks/evolution.csv`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Served, warn_of_load, write_table
from scipy.optimize import differential_evolution
from simulation import SpikingJelly, decode, load_images, load_network


class Objective:
    """Latency to the target, and between equal latencies the share missing before it."""

    def __init__(self, layers, images, labels, timesteps, target):
        self.simulator = SpikingJelly(layers, timesteps)
        self.neurons = [m for m in self.simulator.net if hasattr(m, "v_threshold")]
        self.thresholds = [neuron.v_threshold for neuron in self.neurons]
        self.images, self.labels, self.target = images, labels, target
        self.seconds = []

    def __call__(self, factors):
        start = time.perf_counter()
        for neuron, threshold, factor in zip(self.neurons, self.thresholds, factors):
            neuron.v_threshold = threshold * float(factor)
        right = 0
        with torch.no_grad():
            for part, labels in zip(self.images.split(50), self.labels.split(50)):
                right = right + (self.simulator.run(part).argmax(2) == labels).sum(1)
        missing = (self.target - right / len(self.labels)).numpy()
        below = np.flatnonzero(missing > 0)
        latency = below[-1] + 2 if len(below) else 1
        self.seconds.append(time.perf_counter() - start)
        return latency + np.clip(missing, 0, None).sum() / len(missing)


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--model", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--data", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--timesteps", type=int, default=128)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warn_of_load()
    torch.set_num_threads(arguments.threads)
    layers, mean, deviation = load_network(arguments.model)
    numbers = (arguments.model.parent / "test-subset-1000.txt").read_text().split()
    numbers = [int(number) for number in numbers[: arguments.images]]
    images, labels = load_images(arguments.data, numbers, mean, deviation)

    with tempfile.TemporaryDirectory() as decoded:
        decode(arguments.data, Path(decoded))
        options = [f"--model={arguments.model}", f"--data={decoded}"]
        options += [f"--images={arguments.images}", f"--timesteps={arguments.timesteps}"]
        served = Served("evolution", arguments.threads, options)
        served.ask("0")  # to warm up, and once it answers, it has read the images
    ours = served.ask(str(arguments.generations))

    theirs = Objective(layers, images, labels, arguments.timesteps, target=0.84)
    theirs(np.ones(len(layers) - 1))
    theirs.seconds.clear()
    bounds = [(0.7, 1.2)] * (len(layers) - 1)
    differential_evolution(
        theirs, bounds, popsize=1, maxiter=0, tol=0, polish=False, updating="deferred", seed=0
    )
    each = np.median(theirs.seconds)
    header = ("system", "images", "timesteps", "evaluations", "measured", "seconds", "ratio")
    evaluations = ours["evaluations"]
    size = (arguments.images, arguments.timesteps, evaluations)
    seconds = each * evaluations
    rows = [
        ("evospike", *size, evaluations, f"{ours['seconds']:.1f}", "1.0"),
        ("SciPy and SpikingJelly", *size, len(theirs.seconds), f"{seconds:.1f}", f"{seconds / ours['seconds']:.1f}"),
    ]
    write_table("evolution.csv", header, rows)
    print(f"evospike: {ours['stopped']} of {evaluations} stopped early, latency {ours['latency']}")


if __name__ == "__main__":
    main()
