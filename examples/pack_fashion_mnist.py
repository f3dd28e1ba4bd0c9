"""Draw the balanced sample of Fashion-MNIST that ships with the package, from the original files.

    python examples/pack_fashion_mnist.py /usr/share/datasets/fashion-mnist

writes src/conjoin/data/files/fashion_mnist.npz and prints the SHA-256 to put into
src/conjoin/data/fashion.py. The draw is a pure function of the seed: class by class, the images
with the smallest random number, in the order of their index.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

from conjoin.core.random import Streams
from conjoin.data.idx import idx_folder

SEED = 0
SIZES = {"test": ("t10k", 100), "train": ("train", 200)}
TARGET = Path(__file__).parents[1] / "src/conjoin/data/files/fashion_mnist.npz"


def main(folder: str) -> None:
    arrays = {}
    for split, (prefix, per_class) in SIZES.items():
        data = idx_folder(folder, prefix)
        order = Streams.of(SEED, torch.arange(len(data))).uniform(1, dtype=torch.float64)[:, 0]
        chosen = (
            torch.cat(
                [
                    (data.y == label).nonzero()[:, 0][order[data.y == label].argsort()[:per_class]]
                    for label in range(10)
                ]
            )
            .sort()
            .values
        )
        arrays[f"{split}_x"] = (data.x[chosen, 0] * 255).round().to(torch.uint8).numpy()
        arrays[f"{split}_y"] = data.y[chosen].to(torch.uint8).numpy()
        arrays[f"{split}_index"] = chosen.to(torch.int32).numpy()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            # A fixed date makes the file, and so its checksum, reproducible.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (2021, 8, 14, 0, 0, 0)),
                content.getvalue(),
                zipfile.ZIP_DEFLATED,
            )
    TARGET.write_bytes(packed.getvalue())
    print(len(packed.getvalue()), "bytes, SHA-256", hashlib.sha256(packed.getvalue()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
