"""Images in, batches out: sources, the cache of decoded images, augmentation and loaders."""

from convscope.data.augment import Augment
from convscope.data.batches import BatchLoader, Split
from convscope.data.load import load_data
from convscope.data.loaders import DataLoaders
from convscope.data.preprocess import Preprocess
from convscope.data.ratings import RatingLoaders, load_ratings
from convscope.data.ratings_table import holds_ratings
from convscope.data.report import sample_image
from convscope.data.titles import read_titles

__all__ = [
    "Augment",
    "BatchLoader",
    "DataLoaders",
    "Preprocess",
    "RatingLoaders",
    "Split",
    "holds_ratings",
    "load_data",
    "load_ratings",
    "read_titles",
    "sample_image",
]
