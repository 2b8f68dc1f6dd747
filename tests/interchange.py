"""Checks NIR files between evospike and Python, and writes the file that the Rust tests read.

    python3 -m venv venv && venv/bin/pip install nir nirtorch snntorch
    EVOSPIKE_PYTHON=venv/bin/python cargo test --release --test interchange

writes networks as NIR files with the spikes of evospike's engine, and runs
`interchange.py check FOLDER`: they must open in the package `nir`, types checked, and give the same
spikes in a plain loop over NIR's equations and in snnTorch. `interchange.py write FOLDER` writes
`python.nir.gz` with the package `nir`, and its spikes by the loop as `python.json`.

Networks with one threshold a layer and hard reset, all that their own importers of NIR take, must
give the same output in SpikingJelly, if it is installed, and snnTorch, where they leak: its importer
refuses other neurons. What the importers say of the rest is printed. Files that `save_for` wrote for an
importer must load there as they are, take a batch, and give the same output with soft reset.
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

import nir
import numpy as np
import torch
from torch.nn import functional

DT = 1e-4


def order(graph):
    """Names of nodes, each after those that lead to it."""
    done = []
    while len(done) < len(graph.nodes):
        ready = [
            name
            for name in graph.nodes
            if name not in done and all(a in done for a, b in graph.edges if b == name)
        ]
        assert ready, "the graph has a loop"
        done += ready
    return done


def soft(node):
    """Whether evospike says that these neurons subtract their threshold."""
    about = node.metadata.get("evospike")
    return about is not None and json.loads(about)["reset"] == "Subtract"


def level(node):
    """The least potential of single precision at which the neurons fire: evospike's threshold."""
    return np.nextafter(node.v_threshold.astype(np.float32), np.float32(np.inf))


def double(array):
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def run(graph, frames):
    """Spikes of every layer of neurons in order, and what comes out, by Euler's method in double
    precision. A frame is a timestep's input."""
    names = order(graph)
    neurons = [name for name in names if isinstance(graph.nodes[name], (nir.IF, nir.LIF))]
    state = {name: 0.0 for name in neurons}
    spikes, output = [[] for _ in neurons], []
    for frame in frames:
        values = {}
        for name in names:
            node = graph.nodes[name]
            x = frame if isinstance(node, nir.Input) else sum(
                values[a] for a, b in graph.edges if b == name
            )
            if isinstance(node, (nir.Affine, nir.Linear)):
                x = double(node.weight) @ x
                x = x + double(node.bias) if isinstance(node, nir.Affine) else x
            elif isinstance(node, nir.Conv2d):
                x = functional.conv2d(
                    x[None],
                    double(node.weight),
                    double(node.bias),
                    tuple(node.stride),
                    tuple(node.padding),
                )[0]
            elif isinstance(node, nir.AvgPool2d):
                x = functional.avg_pool2d(x[None], tuple(node.kernel_size), tuple(node.stride))[0]
            elif isinstance(node, nir.SumPool2d):
                size = tuple(node.kernel_size)
                x = functional.avg_pool2d(x[None], size, tuple(node.stride))[0] * np.prod(size)
            elif isinstance(node, nir.Scale):
                x = x * double(node.scale)
            elif isinstance(node, nir.Flatten):
                x = x.flatten()
            elif isinstance(node, (nir.IF, nir.LIF)):
                v = state[name]
                if isinstance(node, nir.LIF):
                    v = v + DT / double(node.tau) * (double(node.v_leak) - v + double(node.r) * x)
                else:
                    v = v + DT * double(node.r) * x
                x = (v > double(node.v_threshold)).double()
                spikes[neurons.index(name)].append(x.flatten().nonzero().flatten().tolist())
                reset = v - double(level(node)) if soft(node) else double(node.v_reset)
                state[name] = torch.where(x > 0, reset, v)
            values[name] = x
            if isinstance(node, nir.Output):
                output.append(x.flatten().tolist())
    return spikes, output


def snntorch(graph, frames):
    """The same with snnTorch's neurons, in the graph that nirtorch makes, in single precision.

    It fires above what it subtracts, so that it gets the threshold itself. Leaky neurons with soft
    reset are left out: there it subtracts the threshold after the leak, evospike before it.
    """
    import nirtorch
    import snntorch as snn

    fired = {}

    class Neurons(torch.nn.Module):
        def __init__(self, name, node):
            super().__init__()
            leak = 1 - DT / node.tau if isinstance(node, nir.LIF) else np.ones(1)
            assert not soft(node) or isinstance(node, nir.IF)
            self.name = name
            self.leaky = snn.Leaky(
                beta=torch.from_numpy(leak).float(),
                threshold=torch.from_numpy(level(node)),
                reset_mechanism="subtract" if soft(node) else "zero",
            )

        def forward(self, x, state=None):
            x, state = self.leaky(x, self.leaky.init_leaky() if state is None else state)
            fired.setdefault(self.name, []).append(x.flatten().nonzero().flatten().tolist())
            return x, state

    name = {id(node): name for name, node in graph.nodes.items()}
    neurons = lambda node: Neurons(name[id(node)], node)
    flatten = lambda node: torch.nn.Flatten()
    pair = lambda values: tuple(int(value) for value in values)

    def conv(node):
        o, i, *kernel = node.weight.shape
        module = torch.nn.Conv2d(i, o, kernel, pair(node.stride), pair(node.padding))
        module.weight.data = torch.from_numpy(node.weight).float()
        module.bias.data = torch.from_numpy(node.bias).float()
        return module

    def linear(node):
        o, i = node.weight.shape
        module = torch.nn.Linear(i, o, bias=isinstance(node, nir.Affine))
        module.weight.data = torch.from_numpy(node.weight).float()
        if module.bias is not None:
            module.bias.data = torch.from_numpy(node.bias).float()
        return module

    module = nirtorch.nir_to_torch(
        graph,
        {
            nir.IF: neurons,
            nir.LIF: neurons,
            nir.Flatten: flatten,
            nir.Conv2d: conv,
            nir.Affine: linear,
            nir.Linear: linear,
        },
    )
    state, output = None, []
    with torch.no_grad():
        for frame in frames:
            x, state = module(frame[None].float(), state)
            output.append(x.flatten().tolist())
    return list(fired.values()), output


def of_snntorch(graph):
    from snntorch.import_nir import import_from_nir

    return import_from_nir(graph)


def of_spikingjelly(graph):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(graph, dt=DT)


def importers(graph, frames, expected):
    """What the importers of other packages make of the graph. Neurons with soft reset become others
    there, so that only outputs of those with hard reset are compared."""
    for name, load in [("snnTorch", of_snntorch), ("SpikingJelly", of_spikingjelly)]:
        try:
            module = load(graph)
        except ImportError:
            print(f"  {name} is not installed")
            continue
        except (AssertionError, ValueError) as error:
            print(f"  the importer of {name} refuses it: {error}")
            continue
        if any(soft(node) for node in graph.nodes.values() if isinstance(node, (nir.IF, nir.LIF))):
            print(f"  the importer of {name} takes it, without soft reset")
            continue
        state, right = None, 0
        with torch.no_grad():
            for frame, output in zip(frames, expected, strict=True):
                x, state = module(frame[None].float(), state)
                right += np.allclose(x.flatten(), output, atol=1e-3)
        print(f"  the importer of {name} gives {right} of {len(frames)} timesteps' outputs")
        assert right >= 0.9 * len(frames)


def imported(name, graph, samples, size):
    """A file that evospike wrote for this importer, with soft reset as its table says: outputs of all
    images as one batch."""
    try:
        net = {"snnTorch": of_snntorch, "SpikingJelly": of_spikingjelly}[name](graph)
    except ImportError:
        print(f"  {name} is not installed")
        return
    for layer, m in list(net.named_children()):
        if name == "snnTorch":
            import snntorch

            if isinstance(m, snntorch.Leaky):
                setattr(net, layer, snntorch.Leaky(m.beta, m.threshold, init_hidden=True))
        elif hasattr(m, "module"):
            m.module.v_reset = None
    images = torch.stack([torch.tensor(sample["input"]).reshape(size) for sample in samples])
    expected = np.array([sample["output"] for sample in samples])
    state, right = None, 0
    with torch.no_grad():
        for t in range(expected.shape[1]):
            x, state = net(images, state)
            right += np.isclose(x.numpy(), expected[:, t], atol=1e-3).all(axis=1).sum()
    print(f"  {name} itself gives {right} of {expected[:, :, 0].size} outputs of {len(images)} images")
    assert right >= 0.98 * expected[:, :, 0].size


def differing(one, other):
    """How many spikes only one of both has, and how many there are."""
    pairs = [(set(a), set(b)) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(len(a ^ b) for a, b in pairs), sum(len(a) for a, _ in pairs)


def check(folder):
    for path in sorted(Path(folder).glob("*.nir")):
        graph = nir.read(path)
        expected = json.loads(path.with_suffix(".json").read_text())
        size = [int(side) for side in graph.nodes["input"].input_type["input"]]
        print(f"{path.name}: {len(graph.nodes)} nodes, input {size}")
        if path.stem in ("snnTorch", "SpikingJelly"):
            imported(path.stem, graph, expected["samples"], size)
            continue
        for name, simulate in [("NIR's equations", run), ("snnTorch", snntorch)]:
            wrong = total = 0
            apart = 0.0
            for sample in expected["samples"]:
                frame = torch.tensor(sample["input"], dtype=torch.float64).reshape(size)
                spikes, output = simulate(graph, [frame] * len(sample["output"]))
                found = differing(sample["spikes"], spikes)
                wrong, total = wrong + found[0], total + found[1]
                apart = max(apart, np.abs(np.array(output) - np.array(sample["output"])).max())
            print(f"  {name}: {wrong} of {total} spikes differ, outputs by at most {apart:.2g}")
            assert total > 100 and wrong <= expected["tolerance"] * total
        sample = expected["samples"][0]
        frame = torch.tensor(sample["input"], dtype=torch.float64).reshape(size)
        importers(graph, [frame] * len(sample["output"]), sample["output"])


def write(folder):
    rng = np.random.default_rng(1)
    # On a grid, so that sums are exact in every order; thresholds off the grid.
    grid = lambda *shape: (rng.integers(-8, 11, shape) / 16).astype(np.float32)
    conv = lambda i, o, k, pad: nir.Conv2d(None, grid(o, i, k, k), 1, pad, 1, 1, grid(o))
    threshold = lambda *shape: np.broadcast_to(
        (0.3 + 0.25 * np.arange(shape[0], dtype=np.float32)).reshape(-1, *[1] * (len(shape) - 1)), shape
    ).astype(np.float32)
    fired = lambda *shape: nir.IF(np.full(shape, 1 / DT), threshold(*shape), np.zeros(shape))
    leaky = lambda *shape: nir.LIF(
        np.full(shape, 2 * DT), np.full(shape, 2.0), np.zeros(shape), threshold(*shape), np.zeros(shape)
    )
    pool = lambda kind: kind(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    nodes = {
        "input": nir.Input(np.array([1, 4, 4])),
        "conv1": conv(1, 3, 3, 1),
        "if1": fired(3, 4, 4),
        "conv2": conv(3, 3, 3, 1),
        "lif2": leaky(3, 4, 4),
        "conv3": conv(3, 3, 1, 0),
        "if3": fired(3, 4, 4),
        "sum": pool(nir.SumPool2d),
        "flatten": nir.Flatten(None, 0, -1),
        "affine": nir.Affine(grid(4, 12), grid(4)),
        "if4": fired(4),
        "output": nir.Output(np.array([4])),
    }
    chain = list(nodes)
    edges = [*zip(chain, chain[1:]), ("if1", "if3")]  # a residual addition
    graph = nir.NIRGraph(nodes, edges)
    with tempfile.TemporaryDirectory() as beside:
        file = Path(beside) / "python.nir"
        nir.write(file, graph)
        graph = nir.read(file)
        # Most of HDF5's bytes are 0.
        (Path(folder) / "python.nir.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    samples = []
    for _ in range(2):
        frame = torch.from_numpy(rng.integers(0, 17, (1, 4, 4)) / 16)
        spikes, output = run(graph, [frame] * 20)
        samples.append({"input": frame.flatten().tolist(), "spikes": spikes, "output": output})
    text = json.dumps({"samples": samples}, separators=(",", ":"))
    (Path(folder) / "python.json").write_text(text + "\n")


if __name__ == "__main__":
    {"check": check, "write": write}[sys.argv[1]](sys.argv[2])
