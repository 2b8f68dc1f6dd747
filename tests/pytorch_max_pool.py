"""Trains a small network with max pooling on the digits of the crate, for `tests/max_pooling.rs`.

    python3 -m venv venv && venv/bin/pip install torch safetensors
    venv/bin/python tests/pytorch_max_pool.py src/data/digits.csv.gz tests/data/pytorch

The first 1,200 digits are for training. The file's other tensor, `correct`, says which of the rest
PyTorch's network classifies correctly.
"""

import gzip
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    lines = gzip.open(sys.argv[1], "rt").read().split()
    rows = torch.tensor([[int(number) for number in line.split(",")] for line in lines])
    images, labels = rows[:, :-1].reshape(-1, 1, 8, 8) / 16, rows[:, -1]
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-4)
    for epoch in range(15):
        for batch in torch.randperm(1200).split(32):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    correct = net(images[1200:]).argmax(1) == labels[1200:]
    print(f"{correct.sum()} of {len(correct)} correct")
    tensors = {**net.state_dict(), "correct": correct.to(torch.uint8)}
    save_file(tensors, Path(sys.argv[2]) / "max-pool.safetensors")
