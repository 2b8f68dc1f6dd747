"""Writes small networks as ONNX files with ONNX Runtime's logits, which the Rust tests read.

    python3 -m venv venv && venv/bin/pip install torch onnx onnxruntime onnxscript safetensors
    venv/bin/python tests/onnx_small.py tests/data/onnx

`reference.safetensors` has `NAME.input`, 4 images as the network takes them, and `NAME.logits` of
each file; `digits` is trained on the first 1,200 digits of the crate, and has a reference of its own. PyTorch's classic exporter writes most of them; `dynamo` is of the newer one; those that
no exporter writes, or other ones do, are put together node by node.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
RANDOM = np.random.default_rng(0)
FOLDER = Path(sys.argv[1])
REFERENCES = {}


def reference(name, images):
    session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"))
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    REFERENCES[f"{name}.input"] = images.astype(np.float32)
    REFERENCES[f"{name}.logits"] = logits.astype(np.float32).reshape(len(images), -1)


def export(name, net, shape, opset=17, open_batch=True, dynamo=False, **options):
    net.eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.3, 1.5)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(std=0.3)
    images = torch.randn(4, *shape)
    if dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
        options["external_data"] = False
    elif open_batch:
        options["dynamic_axes"] = {"input": {0: "batch"}}
    torch.onnx.export(
        net, (images,), str(FOLDER / f"{name}.onnx"), input_names=["input"], output_names=["logits"],
        opset_version=opset, dynamo=dynamo, **options,
    )
    model = onnx.load(FOLDER / f"{name}.onnx")
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.save(model, FOLDER / f"{name}.onnx")
    reference(name, images.numpy())


class Function(nn.Module):
    """Modules by name, and what becomes of an image."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.of = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.of(self, x)


def networks():
    """VGG as torchvision has it, MobileNet v1, ResNet with option A, SqueezeNet, and more."""
    vgg = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5),
    )  # fmt: skip
    export("vgg", vgg, (3, 9, 8))
    mobile = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU6(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU6(),
        nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(),
    )  # fmt: skip
    mobile = Function(lambda net, x: net.fc(net.f(x).mean([2, 3])), f=mobile, fc=nn.Linear(6, 5))
    export("mobilenet", mobile, (3, 8, 8), opset=9, training=torch.onnx.TrainingMode.PRESERVE)

    def shortcut(net, x):
        x = F.relu(net.stem(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1), "constant", 0)
        x = F.relu(net.norm2(net.conv2(F.relu(net.norm1(net.conv1(x))))) + short)
        return net.fc(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))

    resnet = Function(
        shortcut, stem=nn.Conv2d(3, 4, 3, padding=1), conv1=nn.Conv2d(4, 6, 3, 2, padding=1, bias=False),
        norm1=nn.BatchNorm2d(6), conv2=nn.Conv2d(6, 6, 3, padding=1, bias=False), norm2=nn.BatchNorm2d(6),
        fc=nn.Linear(6, 5),
    )  # fmt: skip
    keep = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
    export("resnet", resnet, (3, 8, 8), opset=11, **keep)
    export("resnet-closed", resnet, (3, 8, 8), opset=13, open_batch=False)

    def fire(net, x):
        x = F.max_pool2d(F.relu(net.stem(x)), 3, 2, ceil_mode=True)
        x = F.relu(net.squeeze(x))
        x = torch.cat([F.relu(net.one(x)), F.relu(net.three(x))], 1)
        return F.adaptive_avg_pool2d(F.relu(net.last(x)), 1).flatten(1)

    squeeze = Function(
        fire, stem=nn.Conv2d(3, 4, 3), squeeze=nn.Conv2d(4, 2, 1), one=nn.Conv2d(2, 3, 1),
        three=nn.Conv2d(2, 3, 3, padding=1), last=nn.Conv2d(6, 5, 1, padding=1),
    )  # fmt: skip
    export("squeezenet", squeeze, (3, 10, 8))

    def odd(net, x):
        x = F.relu(net.a(F.pad(x, (2, 0, 1, 1))))
        x = F.relu(net.b(x))
        x = F.avg_pool2d(x, 2, 1, padding=1, count_include_pad=False)
        x = F.relu(net.c(x))
        x = F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True)
        x = net.norm(F.relu(net.d(x)))
        return net.fc(x.flatten(1))

    windows = Function(
        odd, a=nn.Conv2d(2, 4, (3, 1), stride=(1, 2), padding=(0, 1)),
        b=nn.Conv2d(4, 4, 3, dilation=(2, 1), padding=(2, 1), groups=2), c=nn.Conv2d(4, 4, (1, 2)),
        d=nn.Conv2d(4, 3, 1), norm=nn.BatchNorm2d(3), fc=nn.Linear(60, 5),
    )  # fmt: skip
    export("windows", windows, (2, 7, 9))
    signal = nn.Sequential(
        nn.Conv1d(2, 4, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    export("signal", signal, (2, 16))
    flat = Function(
        lambda net, x: net.fc(F.relu(net.conv(x.view(-1, 1, 6, 6))).flatten(1)),
        conv=nn.Conv2d(1, 2, 3, stride=2), fc=nn.Linear(8, 5),
    )  # fmt: skip
    export("flat", flat, (36,))

    def channels(net, x):
        x = x[:, [2, 1, 0]] * 2 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
        one, two = F.relu(net.stem(x)).chunk(2, 1)
        x = F.relu(net.norm(torch.maximum(one, torch.zeros(())) + two) + net.one(one) - net.two(two))
        return F.log_softmax(net.fc(x[:, :, 1:, :-1].flatten(1)), 1)

    parts = Function(
        channels, stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(2), one=nn.Conv2d(2, 2, 1),
        two=nn.Conv2d(2, 2, 1), fc=nn.Linear(18, 5),
    )  # fmt: skip
    export("parts", parts, (3, 6, 6))
    export("dynamo", resnet, (3, 8, 8), opset=20, dynamo=True)


def digits():
    """A network with biases and max pooling, trained."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    path = Path(__file__).parent.parent / "src/data/digits.csv.gz"
    rows = [[int(x) for x in line.split(",")] for line in gzip.open(path, "rt").read().split()]
    rows = torch.tensor(rows)
    images, labels = rows[:, :-1].reshape(-1, 1, 8, 8) / 16, rows[:, -1]
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 5e-3, weight_decay=1e-4)
    for _ in range(20):
        for batch in torch.randperm(1200).split(32):
            loss = F.cross_entropy(net(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    net.eval()
    right = (net(images[1200:]).argmax(1) == labels[1200:]).sum()
    print(f"digits: {right} of {len(images) - 1200} others right")
    torch.onnx.export(
        net, images[:1], str(FOLDER / "digits.onnx"), input_names=["input"], output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}}, opset_version=17, dynamo=False,
    )
    session = onnxruntime.InferenceSession(str(FOLDER / "digits.onnx"))
    some = images[1200:1216].numpy()
    (logits,) = session.run(None, {"input": some})
    save_file({"input": some, "logits": logits}, FOLDER / "digits-reference.safetensors")


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def save(name, nodes, inputs, shape, constants, opset=17, kind=np.float32, external=False, outputs=5):
    """A model of nodes: (operator, inputs, output, attributes)."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node(op, into, [out], **attributes) for op, into, out, attributes in nodes]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, name, [port(inputs, element, [None, *shape])], [port("logits", element, [None, outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    where = {"save_as_external_data": True, "location": f"{name}.data", "size_threshold": 0}
    onnx.save(model, FOLDER / f"{name}.onnx", **(where if external else {}))
    reference(name, RANDOM.standard_normal((4, *shape)).astype(kind))


def nodes():
    """As tf2onnx writes Keras, half and double precision, external data, old versions."""
    ints = lambda *values: np.array(values, np.int64)
    keras = [
        ("Transpose", ["x"], "nchw", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["nchw", "w1"], "c1", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Add", ["c1", "b1"], "a1", {}),
        ("Relu", ["a1"], "r1", {}),
        ("Min", ["r1", "six"], "m1", {}),
        ("MaxPool", ["m1"], "p1", {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Transpose", ["p1"], "nhwc", {"perm": [0, 2, 3, 1]}),
        ("MatMul", ["nhwc", "w2"], "c2", {}),
        ("BatchNormalization", ["c2t", "g", "b", "m", "v"], "n2", {"epsilon": 1e-3}),
        ("Relu", ["n2"], "r2", {}),
        ("Transpose", ["r2"], "back", {"perm": [0, 2, 3, 1]}),
        ("Shape", ["back"], "s", {}),
        ("Slice", ["s", "zero", "one"], "batch", {}),
        ("Concat", ["batch", "rest"], "flat_shape", {"axis": 0}),
        ("Cast", ["flat_shape"], "flat_32", {"to": TensorProto.INT32}),
        ("Cast", ["flat_32"], "flat_64", {"to": TensorProto.INT64}),
        ("Reshape", ["back", "flat_64"], "flat", {}),
        ("MatMul", ["flat", "w3"], "d", {}),
        ("Add", ["d", "b3"], "z", {}),
        ("Softmax", ["z"], "logits", {"axis": -1}),
    ]
    keras.insert(8, ("Transpose", ["c2"], "c2t", {"perm": [0, 3, 1, 2]}))
    save("keras", keras, "x", (7, 9, 3), {
        "w1": weights(4, 3, 3, 3), "b1": weights(1, 4, 1, 1), "six": np.float32(0.6), "w2": weights(4, 3),
        "g": np.float32([1.2, 0.7, -0.5]), "b": weights(1, 3)[0], "m": weights(1, 3)[0],
        "v": np.float32([0.4, 1.1, 0.02]), "zero": ints(0), "one": ints(1), "rest": ints(18),
        "w3": 3 * weights(18, 5), "b3": weights(5, 1)[:, 0],
    })  # fmt: skip
    dense = [
        ("Flatten", ["x"], "f", {}),
        ("Gemm", ["f", "w1", "b1"], "h", {"alpha": 0.5, "beta": 2.0, "transB": 1}),
        ("Clip", ["h"], "r", {"min": 0.0, "max": 0.4}),
        ("Gemm", ["r", "w2", "b2"], "logits", {}),
    ]
    values = lambda kind: {
        "w1": weights(6, 12).astype(kind), "b1": weights(6, 1)[:, 0].astype(kind),
        "w2": weights(6, 5).astype(kind), "b2": np.zeros(5, kind),
    }  # fmt: skip
    save("external", dense, "x", (3, 2, 2), values(np.float32), opset=9, external=True)
    inputs = [*dense[:2], ("Clip", ["h", "low", "high"], "r", {}), dense[3]]
    for name, kind in [("half", np.float16), ("double", np.float64)]:
        bounds = {"low": np.array(0, kind), "high": np.array(0.4, kind)}
        save(name, inputs, "x", (3, 2, 2), values(kind) | bounds, opset=13, kind=kind)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    networks()
    nodes()
    digits()
    save_file(REFERENCES, FOLDER / "reference.safetensors")
