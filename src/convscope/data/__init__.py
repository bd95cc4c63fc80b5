"""Images in, batches out: sources, the cache of decoded images, augmentation and loaders."""

from convscope.data.augment import Augment
from convscope.data.batches import BatchLoader, Split
from convscope.data.load import load_data
from convscope.data.loaders import DataLoaders
from convscope.data.preprocess import Preprocess
from convscope.data.report import sample_image

__all__ = ["Augment", "BatchLoader", "DataLoaders", "Preprocess", "Split", "load_data", "sample_image"]
