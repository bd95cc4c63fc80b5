"""Networks: the small convolutional nets of the library, their registry, initialisation and reuse of trained weights."""

from convscope.nn.build import MODELS, build, rebuild
from convscope.nn.init import SCHEMES, initialise
from convscope.nn.models import ResidualBlock, simple_cnn, small_resnet
from convscope.nn.recipe import Recipe, recipe_of
from convscope.nn.transfer import Transfer, head_of, start_from

__all__ = [
    "MODELS",
    "SCHEMES",
    "Recipe",
    "ResidualBlock",
    "Transfer",
    "build",
    "head_of",
    "initialise",
    "rebuild",
    "recipe_of",
    "simple_cnn",
    "small_resnet",
    "start_from",
]
