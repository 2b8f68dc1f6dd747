"""Time of an evolution to the same quality: evospike against SciPy with SpikingJelly.

Needs what `throughput.py` needs, and `pip install scipy`. From the repository root:

    python tests/benchmarks/evolution.py --data cifar-10

The network is the half-width VGG15 of `results/cifar10` with signed neurons, which SpikingJelly lacks:
a few lines of PyTorch between its layers. Evolved are a factor for the threshold of each layer and its
initial potential, by the cross-entropy over timesteps 5 to 7. evospike runs its own evolution: CMA-ES
on new batches of images. SciPy's differential evolution (best1bin, 28 members, deferred updating) sees
400 images that stay the same. How many generations it needs until its network is as accurate on all
5,000 held-out images, evospike's differential evolution tells, which is statistically the same
(`tests/de_scipy.rs`) and much sooner done; what one evaluation costs is measured with SciPy and
SpikingJelly, on random weights, as the time of dense layers does not depend on them. Their product
is SciPy's time. Rows go to `results/benchmarks/evolution.csv`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from common import Served, warn_of_load, write_table
from scipy.optimize import differential_evolution
from simulation import SpikingJelly
from throughput import layers_of_vgg15

FROM, TIMESTEPS, IMAGES, GENES = 5, 7, 400, 28


class SignedNeuron(torch.nn.Module):
    """Neurons that fire spikes of one size up, and down as long as their sum stays at or above 0."""

    def __init__(self):
        super().__init__()
        self.threshold, self.initial = 1.0, 0.5

    def forward(self, currents):
        potential = torch.full_like(currents[0], self.initial * self.threshold)
        fired = torch.zeros_like(potential)
        spikes = torch.empty_like(currents)
        for t, current in enumerate(currents):
            potential += current
            up = (potential >= self.threshold).float()
            down = ((potential < -self.threshold) & (fired >= 1)).float()
            spikes[t] = up - down
            potential -= self.threshold * spikes[t]
            fired += spikes[t]
        return spikes


class Objective:
    """Cross-entropy of the mean output, over the last timesteps."""

    def __init__(self):
        self.simulator = SpikingJelly(layers_of_vgg15(), TIMESTEPS)
        net = self.simulator.net
        for i, module in enumerate(net):
            if hasattr(module, "v_threshold"):
                net[i] = SignedNeuron()
        self.neurons = [module for module in net if isinstance(module, SignedNeuron)]
        self.images = torch.rand(IMAGES, 3, 32, 32)
        self.labels = torch.randint(10, (IMAGES,))
        self.seconds = []

    def __call__(self, genes):
        start = time.perf_counter()
        for neuron, factor, initial in zip(self.neurons, genes[: GENES // 2], genes[GENES // 2 :]):
            neuron.threshold, neuron.initial = float(factor), float(initial)
        cost = 0.0
        for part, labels in zip(self.images.split(50), self.labels.split(50)):
            totals = self.simulator.run(part)
            for t in range(FROM, TIMESTEPS + 1):
                mean = totals[t - 1] / t
                cost += torch.nn.functional.cross_entropy(mean, labels, reduction="sum").item()
        self.seconds.append(time.perf_counter() - start)
        return cost / IMAGES / (TIMESTEPS - FROM + 1)


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--data", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--generations", type=int, nargs="+", default=[105], help="of SciPy's search, until its network is as good")
    arguments = parser.parse_args()
    warn_of_load()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)

    served = Served("evolution", arguments.threads, [f"--cifar={arguments.data}"])
    before = json.loads(served.process.stdout.readline())["accuracy"]
    ours = served.ask("evospike")
    print(f"converted {before:.2f} %, evolved by evospike {ours['accuracy']:.2f} %", flush=True)
    for generations in arguments.generations:
        found = served.ask(f"de {generations}")
        reached = found["accuracy"] >= ours["accuracy"]
        print(f"{generations} generations of differential evolution: {found}", flush=True)
        if reached:
            break

    theirs = Objective()
    theirs(np.tile([1.0, 0.5], (GENES // 2, 1)).T.ravel())
    theirs.seconds.clear()
    bounds = [(0.6, 1.6)] * (GENES // 2) + [(-0.5, 1.5)] * (GENES // 2)
    differential_evolution(
        theirs, bounds, popsize=1, maxiter=0, tol=0, polish=False, updating="deferred", seed=0
    )
    each = statistics.median(theirs.seconds)
    header = ("system", "accuracy_percent", "evaluations", "measured", "seconds", "ratio")
    accuracy = f"{found['accuracy']:.2f}"
    rows = [
        ("evospike", f"{ours['accuracy']:.2f}", ours["evaluations"], ours["evaluations"], ours["seconds"]),
        ("evospike, differential evolution", accuracy, found["evaluations"], found["evaluations"], found["seconds"]),
        ("SciPy and SpikingJelly", accuracy, found["evaluations"], len(theirs.seconds), each * found["evaluations"]),
    ]
    ratio = [f"{row[-1] / ours['seconds']:.1f}" for row in rows]
    rows = [(*row[:-1], f"{row[-1]:.1f}", ratio) for row, ratio in zip(rows, ratio)]
    write_table("evolution.csv", header, rows)
    print("as good a network" if reached else "no network as good", f"after {found['evaluations']} evaluations")


if __name__ == "__main__":
    main()
