"""Writes the weights and logits of a small network in PyTorch, which the Rust tests read.

    python3 -m venv venv && venv/bin/pip install torch safetensors
    venv/bin/python tests/pytorch_small.py tests/data/pytorch

It has every kind of layer that evospike reads from PyTorch. Batch normalisation adds 1e-5 to the
variances, PyTorch's default, for `logits`, and 1e-3, Keras's, for `logits_1e-3`. `images` are bytes,
of which the network sees the 255th part.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.norm(self.conv(x))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.layers = nn.ModuleList([Residual()])
        self.fc1 = nn.Linear(64, 16, bias=False)
        self.bn = nn.BatchNorm1d(16)
        self.weight = nn.Parameter(torch.randn(10, 16) / 4)
        self.bias = nn.Parameter(torch.randn(10) / 4)

    def forward(self, x):
        x = F.relu(F.avg_pool2d(self.norm(self.stem(x)), 2))
        x = F.relu(self.layers[0](x))
        x = F.relu(self.bn(self.fc1(x.flatten(1))))
        return F.linear(x, self.weight, self.bias)


if __name__ == "__main__":
    torch.manual_seed(0)
    folder, net = Path(sys.argv[1]), Small()
    norms = [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        for values in [norm.weight.data, norm.running_var]:
            values.uniform_(0.005, 1.5)
        for values in [norm.bias.data, norm.running_mean]:
            values.normal_(std=0.3)
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
    logits = {}
    for name, epsilon in [("logits", 1e-5), ("logits_1e-3", 1e-3)]:
        for norm in norms:
            norm.eps = epsilon
        with torch.no_grad():
            logits[name] = net.eval()(images / 255)
    save_file(net.state_dict(), folder / "small.safetensors")
    save_file({"images": images, **logits}, folder / "small-reference.safetensors")
    save_file({k: v.half() for k, v in net.state_dict().items()}, folder / "small-half.safetensors")
