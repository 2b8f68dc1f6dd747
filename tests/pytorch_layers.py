"""Writes networks with every kind of layer that evospike runs, and their logits in PyTorch, which
the Rust tests read.

    python3 -m venv venv && venv/bin/pip install torch safetensors
    venv/bin/python tests/pytorch_layers.py tests/data/pytorch

The metadata `networks` is JSON: for each network its name and nodes, which say their operation, the
numbers of the values that they take (0 is the image) and the names of their tensors. Each network
has the tensors `NAME.input` and `NAME.logits`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

TENSORS, NETWORKS = {}, []


class Network:
    """A network that is computed while it is described."""

    def __init__(self, name, *shape):
        self.name, self.nodes = name, []
        self.values = [torch.randn(3, *shape)]
        TENSORS[f"{name}.input"] = self.values[0]
        NETWORKS.append({"name": name, "shape": shape, "nodes": self.nodes})

    def add(self, op, inputs, value, tensors=(), **fields):
        for field, tensor in dict(tensors).items():
            fields[field] = f"{self.name}.{len(self.nodes)}.{field}"
            TENSORS[fields[field]] = tensor.contiguous()
        self.nodes.append({"op": op, "inputs": inputs, **fields})
        self.values.append(value)
        return len(self.nodes)

    def at(self, value):
        return self.values[-1 if value is None else value]

    def conv(self, outputs, kernel, stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, bias=True, of=None):
        """`padding` is above, left, below, right."""
        x, number = self.at(of), len(self.nodes) if of is None else of
        weight = torch.randn(outputs, x.shape[1] // groups, *kernel) / (x.shape[1] * kernel[0] * kernel[1] / groups) ** 0.5
        tensors = {"weight": weight, **({"bias": torch.randn(outputs) / 2} if bias else {})}
        above, left, below, right = padding
        padded = F.pad(x, (left, right, above, below))
        y = F.conv2d(padded, weight, tensors.get("bias"), stride, 0, dilation, groups)
        fields = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
        return self.add("conv", [number], y, tensors, **fields)

    def relu(self):
        return self.add("relu", [len(self.nodes)], F.relu(self.values[-1]))

    def relu6(self):
        return self.add("clip", [len(self.nodes)], F.relu6(4 * self.values[-1]) / 4, bound=1.5)

    def avg(self, size, stride, padding=(0, 0), ceil=False, count=False):
        y = F.avg_pool2d(self.values[-1], size, stride, padding, ceil, count)
        fields = {"size": size, "stride": stride, "padding": [*padding, *padding], "ceil": ceil, "count": count}
        return self.add("avg", [len(self.nodes)], y, **fields)

    def max(self, size, stride, padding=(0, 0), dilation=(1, 1), ceil=False):
        y = F.max_pool2d(self.values[-1], size, stride, padding, dilation, ceil)
        fields = {"size": size, "stride": stride, "padding": [*padding, *padding], "dilation": dilation, "ceil": ceil}
        return self.add("max", [len(self.nodes)], y, **fields)

    def norm(self, epsilon=1e-5, positive=False):
        x = self.values[-1]
        channels = x.shape[1]
        weight, bias, mean = (torch.randn(channels) for _ in range(3))
        weight = weight.abs() if positive else weight
        variance = torch.rand(channels) + 0.1
        y = F.batch_norm(x, mean, variance, weight, bias, False, 0, epsilon)
        scale = weight / (variance + epsilon).sqrt()
        return self.add("norm", [len(self.nodes)], y, {"scale": scale, "shift": bias - mean * scale})

    def sum(self, *values):
        return self.add("sum", list(values), sum(self.values[value] for value in values))

    def concat(self, *values):
        return self.add("concat", list(values), torch.cat([self.values[value] for value in values], 1))

    def linear(self, outputs, last=False):
        """Over channels, rows and columns, or with `last` over rows, columns and channels."""
        x = self.values[-1]
        x = (x.permute(0, 2, 3, 1) if last else x).flatten(1)
        weight, bias = torch.randn(outputs, x.shape[1]) / x.shape[1] ** 0.5, torch.randn(outputs) / 2
        y = F.linear(x, weight, bias)[:, :, None, None]
        self.add("linear", [len(self.nodes)], y, {"weight": weight, "bias": bias}, last=last)

    def end(self, last=False):
        self.linear(4, last)
        self.finish()

    def finish(self):
        TENSORS[f"{self.name}.logits"] = self.values[-1].flatten(1).contiguous()


def begin(name, *shape):
    net = Network(name, *(shape or (2, 7, 6)))
    net.conv(6, (3, 3), padding=(1, 1, 1, 1))
    return net


def networks():
    net = begin("windows")
    net.relu()
    net.conv(5, (3, 2), (2, 1), (1, 2), (1, 2, 1, 2))
    net.relu()
    net.end()

    net = begin("unequal padding")
    net.relu()
    net.conv(4, (2, 3), (2, 2), (1, 1), (0, 2, 1, 0), bias=False)
    net.relu()
    net.end(last=True)

    net = begin("groups")
    net.relu()
    net.conv(12, (3, 3), padding=(1, 1, 1, 1), groups=6)
    net.conv(9, (1, 1), groups=3)  # with no ReLU between
    net.relu()
    net.end()

    for ceil in [False, True]:
        for count in [False, True]:
            net = begin(f"average, ceil {ceil}, padding {count}")
            net.relu()
            net.avg((3, 2), (2, 2), (1, 1), ceil, count)
            net.conv(5, (2, 2), padding=(1, 1, 1, 1))
            net.relu()
            net.avg((2, 2), (1, 2), (0, 1), ceil, count)
            net.end()

    net = begin("global average")
    net.relu()
    net.conv(4, (1, 1))
    net.relu()
    net.avg(tuple(net.values[-1].shape[2:]), (1, 1))
    net.finish()

    net = begin("max behind ReLU")
    net.relu()
    net.max((3, 2), (2, 1), (1, 1), ceil=True)
    net.conv(5, (2, 2))
    net.relu()
    net.max((2, 2), (1, 1), (0, 0), (2, 1))
    net.max((1, 2), (1, 1))
    net.end()

    net = begin("max before ReLU")
    net.max((3, 3), (2, 2), (1, 1))
    net.norm(positive=True)
    net.max((2, 2), (1, 1))
    net.relu6()
    net.norm(positive=True)
    net.max((2, 1), (1, 1))
    net.end()

    net = begin("branches")
    trunk = net.relu()
    net.conv(3, (1, 1), of=trunk)
    one = net.relu()
    net.conv(4, (3, 3), padding=(1, 1, 1, 1), of=trunk)
    other = net.relu()
    net.concat(one, other, trunk)
    net.max((2, 2), (2, 2), ceil=True)
    joined = net.conv(5, (3, 3), padding=(1, 1, 1, 1))
    third = net.conv(5, (1, 1), of=joined - 1)
    net.relu()
    net.sum(joined, third, third + 1)
    net.concat(third + 2, joined)
    net.relu()
    net.end()

    net = Network("normalised image", 3, 5, 8)
    net.norm(1e-3)
    net.conv(6, (3, 3), (2, 2), padding=(1, 1, 1, 1))
    net.norm()
    net.relu()
    net.norm(1e-3)
    net.conv(5, (3, 3), padding=(1, 1, 1, 1), bias=False)
    net.avg((2, 2), (1, 1))
    net.norm()
    net.relu6()
    net.norm()
    net.end()

    net = Network("one dimension", 2, 1, 23)
    net.conv(4, (1, 5), (1, 2), padding=(0, 2, 0, 2))
    net.relu()
    net.max((1, 3), (1, 2), (0, 1))
    net.conv(6, (1, 3), padding=(0, 1, 0, 1), groups=2)
    net.relu()
    net.avg((1, 2), (1, 2))
    net.end(last=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.no_grad():
        networks()
    path = Path(sys.argv[1]) / "layers.safetensors"
    save_file(TENSORS, path, {"networks": json.dumps(NETWORKS)})
