"""Data: the sample that ships with the package, and loaders for the user's own."""

from conjoin.data.fashion import fashion_mnist, marked
from conjoin.data.files import from_arrays, image_folder, npz, parquet
from conjoin.data.idx import idx_folder, read_idx

__all__ = [
    "fashion_mnist",
    "from_arrays",
    "idx_folder",
    "image_folder",
    "marked",
    "npz",
    "parquet",
    "read_idx",
]
