"""Writes the embedded part of Fashion-MNIST from its four published files: make.py FOLDER.

Images of 28 x 28 pixels become 14 x 14 by the mean of 2 x 2 pixels, rounded. Of the 60,000 training
images the first 15,000 are kept, of the 10,000 test images all.
"""

import gzip
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent


def read(name, header):
    with gzip.open(Path(sys.argv[1]) / f"{name}.gz") as file:
        return file.read()[header:]


def write(name, sizes, data):
    magic = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}i", *sizes)
    # Without a date, the same images give the same bytes.
    (HERE / f"{name}.gz").write_bytes(gzip.compress(magic + data, 9, mtime=0))


def halved(image):
    rows = (
        [image[r + d] + image[r + d + 1] + image[r + d + 28] + image[r + d + 29] for d in range(0, 28, 2)]
        for r in range(0, 784, 56)
    )
    return bytes((sum_of_four + 2) // 4 for row in rows for sum_of_four in row)


for part, count in [("train", 15_000), ("t10k", 10_000)]:
    pixels = read(f"{part}-images-idx3-ubyte", 16)
    images = b"".join(halved(pixels[784 * i : 784 * (i + 1)]) for i in range(count))
    write(f"{part}-images-idx3-ubyte", [count, 14, 14], images)
    write(f"{part}-labels-idx1-ubyte", [count], read(f"{part}-labels-idx1-ubyte", 8)[:count])
