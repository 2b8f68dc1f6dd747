"""Images a second of SpikingJelly on a card, for the bench `cuda`, which calls this.

Needs Python 3.10 or later with `pip install torch spikingjelly cupy-cuda12x`, and an NVIDIA card;
with `--device cpu` neither card nor CuPy. Prints the rates as JSON: simulation and training through
time of the half-width VGG15 as a spiking network, all timesteps of a layer at once (its multi-step
mode), the fastest of three runs.
"""

import argparse
import json
import time

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from training import vgg15


def spiking(device):
    modules = []
    for module in vgg15():
        if isinstance(module, nn.ReLU):
            module = neuron.IFNode(
                v_reset=None, detach_reset=True, surrogate_function=surrogate.ATan()
            )
        elif not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module = layer.SeqToANNContainer(module)
        else:
            continue  # folded into the weights
        modules.append(module)
    net = nn.Sequential(*modules).to(device)
    functional.set_step_mode(net, "m")
    if device == "cuda":
        for module in net.modules():
            if isinstance(module, neuron.IFNode):
                module.backend = "cupy"
    return net


def rate(count, device, work):
    best = 0.0
    for _ in range(4):  # the first compiles kernels
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, count / (time.perf_counter() - start))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    device, batch = arguments.device, min(arguments.batch, arguments.images)
    torch.manual_seed(0)
    net = spiking(device)
    images = torch.rand(batch, 3, 32, 32, device=device)
    labels = torch.arange(batch, device=device) % 10
    batches = max(1, arguments.images // batch)

    def outputs(timesteps):
        functional.reset_net(net)
        return net(images.expand(timesteps, *images.shape))

    @torch.no_grad()
    def simulate():
        for _ in range(batches):
            outputs(64).cumsum(0)

    optimiser = torch.optim.Adam(net.parameters())

    def train():
        for _ in range(max(1, batches // 4)):
            loss = nn.functional.cross_entropy(outputs(4).mean(0), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    net.eval()
    rates = {"plain, 64 timesteps": rate(batches * batch, device, simulate)}
    net.train()
    count = max(1, batches // 4) * batch
    rates["training through 4 timesteps"] = rate(count, device, train)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
