"""Networks: the small convolutional nets of the library, their registry, initialisation and reuse of trained weights."""

from convscope.nn.build import MODELS, build, rebuild
from convscope.nn.init import SCHEMES, initialise
from convscope.nn.models import ResidualBlock, simple_cnn, small_resnet
from convscope.nn.ratings import RATING_MODELS, DotProduct, RatingNet, build_rating_model, dot_product, rating_net
from convscope.nn.recipe import Recipe, recipe_of
from convscope.nn.transfer import Transfer, head_of, start_from

__all__ = [
    "MODELS",
    "RATING_MODELS",
    "SCHEMES",
    "DotProduct",
    "RatingNet",
    "Recipe",
    "ResidualBlock",
    "Transfer",
    "build",
    "build_rating_model",
    "dot_product",
    "head_of",
    "initialise",
    "rating_net",
    "rebuild",
    "recipe_of",
    "simple_cnn",
    "small_resnet",
    "start_from",
]
