"""Train a small one-dimensional network on spoken digits and write its weights.

    python examples/train_digits.py FILE OUT    # FILE: the recordings, a .npz (other_data.py)

The data (Free Spoken Digit Dataset, CC BY-SA 4.0) do not ship with the package. OUT, a
``.safetensors``, is what ``other_data:digits?weights=OUT`` loads.
"""

import sys
from pathlib import Path

import torch
from other_data import Digits, spoken_digits

from conjoin import predict
from conjoin.core.files import save_tensors
from conjoin.nn.initialise import initialise
from conjoin.training import Recipe, Standard, fit

RECIPE = Recipe(epochs=20, batch_size=64, rate=3e-3)


def main(source: str, target: str) -> None:
    torch.set_num_threads(1)  # sums round by the number of threads
    train, test = (spoken_digits(Path(source), split) for split in ("train", "test"))
    network = Digits()
    initialise(network, seed=0)
    fit(network, train, Standard(), RECIPE, lambda event: print(f"epoch {event.done}", flush=True))
    save_tensors(dict(network.state_dict()), Path(target), {"format": "pt"})
    for data in (train, test):
        right = float((predict(network, data).argmax(1) == data.y).double().mean())
        print(f"{data.name}: accuracy {right:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
