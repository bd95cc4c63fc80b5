"""The public names, pinned: adding one is a decision, losing one is an error."""

import subprocess
import sys

import pytest

import convscope as cs


def test_public_names():
    assert cs.__all__ == [
        "__version__",
        "ActivationStats",
        "Callback",
        "CancelFit",
        "ConvscopeError",
        "DataLoaders",
        "EarlyStopping",
        "Learner",
        "Recorder",
        "Watcher",
        "conv2d_as_matrix",
        "dot_product",
        "kernels",
        "load_data",
        "load_ratings",
        "rating_net",
        "receptive_field",
        "recommender",
        "simple_cnn",
        "small_resnet",
        "summary",
        "trace",
        "workbook",
    ]
    for name in cs.__all__:
        assert getattr(cs, name) is not None
    assert callable(cs.trace)  # a package of that name would hide the function once it was imported


def test_importing_convscope_brings_in_nothing_heavy():
    code = "import sys, convscope; print(sorted(m for m in ('torch', 'numpy', 'matplotlib', 'PIL') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError) as error:
        cs.simple_rnn  # noqa: B018
    assert str(error.value) == "module 'convscope' has no attribute 'simple_rnn'"
