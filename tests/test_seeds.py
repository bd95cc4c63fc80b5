"""Seeds by purpose, and the device with its reason."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.errors import UsageError
from convscope.seeds import DeviceChoice, choose_device, derive, generator


def test_the_numbers_never_change() -> None:
    """A run of an older version must repeat: these values are part of the contract."""
    assert derive(0, "order", 3) == 620632252573888127
    assert torch.randperm(5, generator=generator(0, "order", 3)).tolist() == torch.randperm(5, generator=generator(0, "order", 3)).tolist()


def test_another_process_derives_the_same() -> None:
    code = "from convscope.seeds import derive; print(derive(7, 'augment', 1, 2))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == derive(7, "augment", 1, 2)


@given(st.lists(st.tuples(st.integers(), st.lists(st.integers() | st.text(max_size=3), max_size=3)), unique_by=repr, max_size=20))
@settings(max_examples=100, deadline=None)
def test_different_purposes_have_different_seeds_of_63_bits(purposes: list[tuple[int, list[int | str]]]) -> None:
    found = [derive(seed, *purpose) for seed, purpose in purposes]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**63 for seed in found)


def test_a_number_and_the_same_word_differ() -> None:
    assert len({derive(0, 1), derive(0, "1"), derive(0, "1", ""), derive(1), derive(0, "", "1")}) == 5


def test_devices_and_reasons() -> None:
    assert choose_device("cpu") == DeviceChoice(torch.device("cpu"), "asked for")
    automatic = choose_device("auto")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert automatic == DeviceChoice(torch.device("cpu"), "automatic: PyTorch finds no GPU here")


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "meta", "", "tpu"])
def test_an_unknown_device(name: str) -> None:
    with pytest.raises(UsageError) as error:
        choose_device(name)
    assert str(error.value) == f"There is no device {name!r}. Use auto, cpu, cuda, cuda:1 (the second GPU) or mps."


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)

    def message(name: str) -> str:
        with pytest.raises(UsageError) as error:
            choose_device(name)
        return str(error.value)

    assert message("cuda") == "The device 'cuda' was asked for, but this PyTorch was built for the CPU only. Use auto or cpu."
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert message("cuda:1") == ("The device 'cuda:1' was asked for, but PyTorch finds no GPU; its driver may be missing. Use auto or cpu.")
    assert message("mps") == "The device 'mps' was asked for, but this is not a Mac whose GPU PyTorch can use. Use auto or cpu."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert message("cuda:2") == ("The device 'cuda:2' was asked for, but there are 2 GPUs, counted from 0. Use cuda:1 or less, or auto.")
