"""Writes NIR files as other versions and settings of HDF5 lay them out, which the Rust tests read.

    python3 -m venv venv && venv/bin/pip install h5py==3.16
    venv/bin/python tests/hdf5_files.py tests/data/hdf5

All hold the same network, if the reader can read it.
"""

import gzip
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

WEIGHT = np.arange(8, dtype=np.float32).reshape(2, 4) / 8


def write(path, libver, change):
    with h5py.File(path, "w", libver=libver) as file:
        nodes = file.create_group("node/nodes")
        file["node/type"] = "NIRGraph"
        edges = [["in", "a"], ["a", "b"], ["b", "out"]]
        file["node/edges"] = np.array(edges, dtype=h5py.string_dtype())
        for name, fields in {
            "in": {"type": "Input", "shape": [4]},
            "a": {"type": "Affine", "weight": WEIGHT, "bias": np.float32([1, 2])},
            "b": {"type": "IF", "r": [1e4] * 2, "v_threshold": [0.5] * 2, "v_reset": [0.0] * 2},
            "out": {"type": "Output", "shape": [2]},
        }.items():
            for field, value in fields.items():
                nodes[f"{name}/{field}"] = value
        change(file, nodes["a"])


def half(file, affine):
    del affine["weight"]
    affine["weight"] = WEIGHT.astype(np.float16)


def bfloat(file, affine):
    del affine["weight"]
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    space = h5py.h5s.create_simple(WEIGHT.shape)
    h5py.h5d.create(affine.id, b"weight", kind, space).write(space, space, WEIGHT)


def soft(file, affine):
    file.move("node/nodes/a/bias", "hidden")
    affine["bias"] = h5py.SoftLink("/hidden")


def soft_reset(file, affine):
    del file["node/nodes/b/v_reset"]
    file["hidden"] = [0.25] * 2
    file["node/nodes/b/v_reset"] = h5py.SoftLink("/hidden")


def external_reset(file, affine):
    del file["node/nodes/b/v_reset"]
    file["node/nodes/b/v_reset"] = h5py.ExternalLink("other.h5", "/hidden")


def soft_metadata(file, affine):
    file["hidden/dt"] = 1e-3
    file["node/metadata"] = h5py.SoftLink("/hidden")


def many(file, affine):
    """Links in a heap of their own, as of a group of many."""
    for number in range(20):
        file[f"node/nodes/b/{number}"] = number
    soft_reset(file, affine)


def external(file, affine):
    del affine["bias"]
    affine["bias"] = h5py.ExternalLink("other.h5", "/hidden")


def packed(file, affine):
    del affine["weight"]
    affine.create_dataset("weight", data=WEIGHT, chunks=(1, 4), compression="gzip")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, libver, change in [
            ("half", "earliest", half),
            ("bfloat", "earliest", bfloat),
            ("soft-old", "earliest", soft),
            ("soft-new", "v114", soft),
            ("external", "v114", external),
            ("reset-old", "earliest", soft_reset),
            ("reset-new", "v114", soft_reset),
            ("reset-many", "v114", many),
            ("reset-external", "v114", external_reset),
            ("metadata-old", "earliest", soft_metadata),
            ("metadata-new", "v114", soft_metadata),
            ("packed", "v114", packed),
            ("packed-2.0", "v200", packed),
        ]:
            path = Path(folder) / "file"
            write(path, (libver, "latest") if libver == "earliest" else (libver, libver), change)
            out = Path(sys.argv[1]) / f"{name}.nir.gz"
            out.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
