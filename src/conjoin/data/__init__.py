"""Data: the sample that ships with the package, loaders for the user's own, and corruptions."""

from conjoin.data.corruptions import corrupted
from conjoin.data.deviations import Deviations
from conjoin.data.fashion import fashion_mnist, marked
from conjoin.data.files import from_arrays, image_folder, npz, parquet
from conjoin.data.german import german_credit
from conjoin.data.idx import idx_folder, read_idx
from conjoin.data.photographs import imagenet_classes, photographs
from conjoin.data.sentences import text_file
from conjoin.data.sounds import Sounds, sound_folder
from conjoin.data.tables import Column, Layout, table
from conjoin.data.texts import Texts

__all__ = [
    "Column",
    "Deviations",
    "Layout",
    "Sounds",
    "Texts",
    "corrupted",
    "fashion_mnist",
    "from_arrays",
    "german_credit",
    "idx_folder",
    "image_folder",
    "imagenet_classes",
    "marked",
    "npz",
    "parquet",
    "photographs",
    "read_idx",
    "sound_folder",
    "table",
    "text_file",
]
