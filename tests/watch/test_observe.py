"""The observer: what it sees of real training loops, compared with what is known to be true, and that it changes nothing."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from convscope.records import Observation
from convscope.watch.deferred import Deferred
from convscope.watch.graph_facts import fresh_share, network_numbers
from convscope.watch.identity import MOST_KNOWN, Identity, hashes_of, hashes_of_inputs
from convscope.watch.loss_spy import LOSSES, LossSpy
from convscope.watch.observe import Observer
from convscope.watch.observe_loss import compared_answers
from convscope.watch.observe_passes import PassWatch


@contextmanager
def observed(model: nn.Module) -> Iterator[list[Observation]]:
    """Observe a model's training the way a Watcher does."""
    seen: list[Observation] = []
    observer = Observer(model, seen.append)
    handles = [
        model.register_forward_pre_hook(lambda module, arguments: observer.forward_begin(arguments)),
        model.register_forward_hook(lambda module, arguments, output: observer.forward_end(output)),
        register_optimizer_step_pre_hook(lambda optimizer, *_: observer.step_begin(optimizer)),
        register_optimizer_step_post_hook(lambda optimizer, *_: observer.step_end(optimizer)),
    ]
    try:
        yield seen
    finally:
        observer.close()
        for handle in handles:
            handle.remove()


def net(*, norm: bool = False, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(6)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1), *middle, nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, classes)
    )


IMAGES = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 4, (96,), generator=torch.Generator().manual_seed(2))


def loop(
    model: nn.Module,
    *,
    steps: int = 30,
    clear: bool = True,
    validate: Callable[[], None] = lambda: None,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda scores, labels: F.cross_entropy(scores, labels),
) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(steps):
        if step % 6 == 0 and step:
            validate()
            model.train()
        images, labels = IMAGES[step % 6 * 16 : step % 6 * 16 + 16], LABELS[step % 6 * 16 : step % 6 * 16 + 16]
        value = loss(model(images), labels)
        if clear:
            optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def newest(seen: list[Observation], kind: str) -> Observation:
    found = [observation for observation in seen if observation.kind == kind]
    assert found, f"no {kind} among {sorted({o.kind for o in seen})}"
    return found[-1]


@pytest.mark.parametrize("norm", [False, True])
def test_observing_changes_nothing(norm: bool) -> None:
    plain = net(norm=norm)
    watched = copy.deepcopy(plain)
    torch.manual_seed(5)
    before = loop(plain)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    with observed(watched):
        after = loop(watched)
    assert before == after
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in watched.modules())
    assert all(not p._backward_hooks for p in watched.parameters())


def test_loss_functions_are_put_back_also_after_an_error() -> None:
    originals = {name: (getattr(F, name), getattr(F, name).__code__, dict(vars(getattr(F, name)))) for name in LOSSES}
    with pytest.raises(ZeroDivisionError), LossSpy(lambda call: print(1 / 0)):
        F.cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    assert {name: (getattr(F, name), getattr(F, name).__code__, vars(getattr(F, name))) for name in LOSSES} == originals


def test_the_loss_is_seen_as_function_and_as_module() -> None:
    calls = []
    module = nn.CrossEntropyLoss()
    with LossSpy(calls.append):
        values = [F.cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2])), module(torch.zeros(2, 4), torch.tensor([0, 1]))]
    assert [(call.name, tuple(call.input.shape)) for call in calls] == [("cross_entropy", (3, 4)), ("cross_entropy", (2, 4))]
    assert [value.item() for value in values] == pytest.approx([math.log(4)] * 2)


def test_a_loss_is_seen_under_a_name_from_before() -> None:
    calls, criterion = [], cross_entropy
    with LossSpy(calls.append):
        value = criterion(torch.zeros(3, 4), target=torch.tensor([0, 1, 2]), reduction="sum")
        assert inspect.signature(criterion).parameters["reduction"].default == "mean"
    assert [(call.name, call.target.tolist(), call.result is value) for call in calls] == [("cross_entropy", [0, 1, 2], True)]
    assert value.item() == pytest.approx(3 * math.log(4))
    criterion(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_the_plain_loss_of_yes_or_no_answers(name: str) -> None:
    model, labels = nn.Sequential(net(), *([nn.Sigmoid()] if name == "binary_cross_entropy" else [])), (IMAGES.mean((1, 2, 3)) > 0).float()
    expected = []
    with observed(model) as seen:
        for _ in range(3):
            scores = model(IMAGES[:16])[:, 0]
            loss = getattr(F, name)(scores, labels[:16], reduction="sum")
            loss.backward()
            expected.append(getattr(torch.nn.functional, name)(scores.detach().double(), labels[:16].double()).item())
            torch.optim.SGD(model.parameters(), lr=0.1).step()
    looks = [o.numbers for o in seen if o.kind == "loss_input"][:3]
    assert [numbers["plain_binary_loss"] for numbers in looks] == pytest.approx(expected, rel=1e-5)
    assert [numbers["target_mean"] for numbers in looks] == pytest.approx([labels[:16].mean().item()] * 3)


def test_what_the_loss_receives() -> None:
    model = nn.Sequential(net(), nn.Softmax(1))
    with observed(model) as seen:
        loop(model)
    numbers = newest(seen, "loss_input").numbers
    assert numbers["row_sum_gap"] < 1e-5
    assert numbers["classes"] == 4
    assert numbers["target"] == "index"
    assert numbers["training"] is True
    assert numbers["shapes"] == "16 × 4 and 16"


def test_gradients_that_are_not_cleared() -> None:
    model = net()
    with observed(model) as seen:
        loop(model, clear=False)
    numbers = newest(seen, "gradient_carry").numbers
    assert (numbers["checked"], numbers["carried"], numbers["streak"], numbers["since"]) == (29, 29, 29, 1)
    with observed(model) as seen:
        loop(model)
    assert newest(seen, "gradient_carry").numbers["carried"] == 0


def test_accumulated_gradients_are_not_stale() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for step in range(40):
            F.cross_entropy(model(IMAGES[:16]), LABELS[:16]).backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert newest(seen, "gradient_carry").numbers["carried"] == 0


def test_weights_that_the_optimiser_does_not_hold() -> None:
    model = net()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.05)
    with observed(model) as seen:
        F.cross_entropy(model(IMAGES[:16]), LABELS[:16]).backward()
        optimizer.step()
    numbers = newest(seen, "optimizer").numbers
    total, held = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model[0].parameters())
    assert numbers["held"] == pytest.approx(held / total)
    assert numbers["head_held"] is False
    assert numbers["missing"] == "2, 5"
    assert numbers["missing_fresh"] == 1.0


def test_two_optimisers_together_hold_everything() -> None:
    model = net()
    one, two = torch.optim.SGD(model[:2].parameters(), lr=0.05), torch.optim.Adam(model[2:].parameters())
    with observed(model) as seen:
        F.cross_entropy(model(IMAGES[:16]), LABELS[:16]).backward()
        one.step()
        two.step()
    assert newest(seen, "optimizer").numbers["held"] == 1.0


def test_weights_that_are_put_back_after_each_step() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for _ in range(8):
            before = copy.deepcopy(model.state_dict())
            optimizer.zero_grad()
            F.cross_entropy(model(IMAGES[:16]), LABELS[:16]).backward()
            optimizer.step()
            model.load_state_dict(before)
    numbers = newest(seen, "updates").numbers
    assert numbers["still"] >= 6
    assert numbers["still_share"] == 1.0


def test_steps_without_backward() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for _ in range(8):
            F.cross_entropy(model(IMAGES[:16]), LABELS[:16])
            optimizer.step()
    numbers = newest(seen, "updates").numbers
    assert numbers["ungraded"] == 8
    assert numbers["no_gradient"] == 1.0


def test_validation_is_told_from_training_and_counted_rightly() -> None:
    model = net()
    images = IMAGES[:32] + 5

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            F.cross_entropy(model(images), LABELS[:32])

    with observed(model) as seen:
        loop(model, steps=13, validate=validate)
        validate()
        with torch.no_grad():
            scores = model(images)
    numbers = newest(seen, "validation").numbers
    assert numbers["samples"] == 32
    assert numbers["accuracy"] == pytest.approx((scores.argmax(1) == LABELS[:32]).float().mean().item())
    assert numbers["loss"] == pytest.approx(F.cross_entropy(scores, LABELS[:32]).item(), rel=1e-5)
    assert numbers["in_training"] == 0.0
    modes = newest(seen, "modes").numbers
    assert (modes["train_passes"], modes["eval_passes"], modes["eval_in_train"], modes["train_in_eval"]) == (13, 4, 0, 0)


def test_validation_without_no_grad_is_validation() -> None:
    model = net()

    def validate() -> None:
        model.eval()
        F.cross_entropy(model(IMAGES[:32] + 5), LABELS[:32])

    with observed(model) as seen:
        loop(model, validate=validate)
    numbers = newest(seen, "modes").numbers
    assert (numbers["train_passes"], numbers["eval_passes"]) == (30, 4)


def counted(scores: Tensor, labels: Tensor) -> list[Callable[[], Tensor]]:
    """Ways in which loops count right answers."""
    return [
        lambda: scores.argmax(1) == labels,
        lambda: labels == scores.argmax(dim=-1),
        lambda: scores.max(1)[1].eq(labels),
        lambda: torch.eq(scores.argmax(1, keepdim=True), labels.view(-1, 1)),
        lambda: scores.topk(1)[1].t().eq(labels.view(1, -1)),
        lambda: scores.argmax(1).int() == labels.int(),
    ]


@pytest.mark.parametrize("way", range(6))
def test_answers_counted_by_hand_are_heard(way: int) -> None:
    model = net()

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            for at in (0, 16):
                scores = model(IMAGES[at : at + 16] + 5)
                assert (LABELS[at : at + 16] == LABELS[at : at + 16]).all()  # about something else
                counted(scores, LABELS[at : at + 16])[way]()

    with observed(model) as seen:
        loop(model, steps=13, validate=validate)
        validate()
        with torch.no_grad():
            scores = model(IMAGES[:32] + 5)
    numbers = newest(seen, "validation").numbers
    assert numbers["samples"] == 32
    assert numbers["accuracy"] == pytest.approx((scores.argmax(1) == LABELS[:32]).float().mean().item())
    assert numbers["loss"] == pytest.approx(F.cross_entropy(scores, LABELS[:32]).item(), rel=1e-5)
    assert "__eq__" not in vars(torch.Tensor)
    assert "eq" not in vars(torch.Tensor)


def test_answers_collected_first_are_heard_too() -> None:
    model = net()

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            said = torch.cat([model(IMAGES[at : at + 16] + 5).argmax(1) for at in (0, 16)])
            assert (said == LABELS[:32]).shape == (32,)

    with observed(model) as seen:
        loop(model, steps=13, validate=validate)
        validate()
    with torch.no_grad():
        right = model(IMAGES[:32] + 5).argmax(1) == LABELS[:32]
    numbers = newest(seen, "validation").numbers
    assert (numbers["samples"], numbers["accuracy"], numbers["loss"]) == (32, pytest.approx(right.float().mean().item()), None)


def test_one_output_above_zero_means_yes() -> None:
    scores, labels = torch.tensor([2.0, -1.0, 0.3, 0.7]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    for output, cut in ((scores, 0.0), (scores[:, None], 0.0), (scores, 0.5)):
        answered = compared_answers(output, (scores > cut).float(), labels, cross_entropy=False)
        assert answered is not None
        assert callable(answered.codes)
        assert answered.codes()[1:].reshape(3, -1)[:2].tolist() == [(scores > cut).long().tolist(), [1, 0, 0, 1]]
    assert compared_answers(scores, 1 - labels, 1 - labels, cross_entropy=False) is None  # neither of them is what was answered


def test_training_and_new_samples_measured_in_one_go_are_told_apart() -> None:
    model = net()

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            for images in (*IMAGES[:96].split(16), *(IMAGES[:32] + 5).split(16)):
                F.cross_entropy(model(images), LABELS[:16])

    with observed(model) as seen:
        loop(model, validate=validate)
        validate()
    numbers = newest(seen, "validation").numbers
    assert (numbers["samples"], numbers["in_training"], numbers["coverage"]) == (32, 0.0, 1.0)


def test_a_part_of_the_training_set_with_samples_not_drawn_yet_is_no_leak() -> None:
    model = net()

    def evaluate(*batches: Tensor) -> dict[str, object]:
        def validate() -> None:
            model.eval()
            with torch.no_grad():
                for images in batches:
                    F.cross_entropy(model(images), LABELS[: len(images)])

        with observed(model) as seen:
            loop(model, validate=validate)
            validate()
        return newest(seen, "validation").numbers

    mostly = torch.cat([IMAGES[:14], IMAGES[:2] + 9])  # drawn with replacement: two never came
    numbers = evaluate(mostly, IMAGES[:32] + 5)
    assert (numbers["samples"], numbers["in_training"], numbers["leaked"]) == (32, 0.0, 0.0)
    numbers = evaluate(mostly, mostly)
    assert (numbers["samples"], numbers["in_training"], numbers["leaked"]) == (32, 0.875, 0.875)


def test_validation_on_training_images_is_recognised() -> None:
    model = net()

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            F.cross_entropy(model(torch.cat([IMAGES[:16], IMAGES[:16] + 5])), LABELS[:32])

    with observed(model) as seen:
        loop(model, validate=validate)
    assert newest(seen, "validation").numbers["in_training"] == 0.5


def test_training_in_evaluation_mode_is_counted() -> None:
    model = net(norm=True)

    def validate() -> None:
        model.eval()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for step in range(30):
            if step == 10:
                validate()
            optimizer.zero_grad()
            F.cross_entropy(model(IMAGES[:16]), LABELS[:16]).backward()
            optimizer.step()
    numbers = newest(seen, "modes").numbers
    assert (numbers["train_in_eval"], numbers["train_in_eval_streak"], numbers["train_in_eval_since"]) == (20, 20, 10)


def test_adversarial_images_made_in_evaluation_mode_are_no_training_in_it() -> None:
    model = net(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for _ in range(10):
            model.eval()
            images = IMAGES[:16].clone().requires_grad_()
            for _ in range(7):
                (pull,) = torch.autograd.grad(F.cross_entropy(model(images), LABELS[:16]), images)
                images = (images.detach() + 0.01 * pull.sign()).requires_grad_()
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(images.detach()), LABELS[:16]).backward()
            optimizer.step()
    assert max(o.numbers["train_in_eval_streak"] for o in seen if o.kind == "modes") == 0
    assert newest(seen, "modes").numbers["train_passes"] == 80


def test_validating_in_training_mode_is_counted_and_recalibration_is_not() -> None:
    model = net(norm=True)

    def validate() -> None:
        with torch.no_grad():
            F.cross_entropy(model(IMAGES[:32] + 5), LABELS[:32])

    with observed(model) as seen:
        loop(model, validate=validate)
    assert newest(seen, "modes").numbers["eval_in_train"] == 4

    def recalibrate() -> None:
        with torch.no_grad():
            model(IMAGES[:32])

    with observed(model) as seen:
        loop(model, validate=recalibrate)
    assert newest(seen, "modes").numbers["eval_in_train"] == 0


def test_layers_that_the_networks_own_flag_does_not_reach() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norms = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), [nn.BatchNorm1d(8)]
            self.head = nn.Linear(8, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.norms[0](self.first(images)))

    def by_flag(model: nn.Module) -> Callable[[], None]:
        def validate() -> None:
            model.training = False
            with torch.no_grad():
                model(IMAGES[:32] + 5)
            model.training = True

        return validate

    def by_eval(model: nn.Module) -> Callable[[], None]:
        def validate() -> None:
            model.eval()
            with torch.no_grad():
                model(IMAGES[:32] + 5)
            model.train()

        return validate

    for model, make, expected in ((net(norm=True), by_flag, 4), (net(norm=True), by_eval, 0), (Listed(), by_eval, 4)):
        with observed(model) as seen:
            loop(model, validate=make(model))
        numbers = newest(seen, "modes").numbers
        assert (numbers["eval_in_train"], numbers["inner_in_train"]) == (expected, expected)


def test_averages_over_dropout_are_told_from_a_forgotten_eval() -> None:
    def again(passes: int) -> float:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 4))

        def validate() -> None:
            with torch.no_grad():
                for _ in range(passes):
                    model(IMAGES[:32] + 5)

        with observed(model) as seen:
            loop(model, validate=validate)
        numbers = newest(seen, "modes").numbers
        assert numbers["eval_in_train"] == 4 * passes
        return numbers["asked_again"] / numbers["eval_in_train"]

    assert again(1) == 0.0
    assert again(10) == 0.9


def test_weights_of_classes_are_seen() -> None:
    for weight, ratio in ((None, 1.0), (torch.tensor([8.0, 2.0, 1.0, 1.0]), 8.0)):
        model = net()
        with observed(model) as seen:
            loop(model, steps=3, loss=nn.CrossEntropyLoss(weight=weight))
        assert newest(seen, "loss_input").numbers["weight_ratio"] == ratio
    model = net(classes=1)
    with observed(model) as seen:
        loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.02))
        loop(model, steps=3, loss=lambda scores, labels: loss(scores[:, 0], (labels > 1).float()))
        assert newest(seen, "loss_input").numbers["weight_ratio"] == pytest.approx(50.0)
    assert newest(seen, "fit").numbers["classes"] == 2


def test_the_labels_of_a_step_are_those_of_all_its_passes() -> None:
    model = net(classes=1)

    def loss(scores: Tensor, _: Tensor) -> Tensor:
        true = F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
        made_up = model(IMAGES[:16] - 5)
        return true + F.binary_cross_entropy_with_logits(made_up, torch.zeros_like(made_up))

    with observed(model) as seen:
        loop(model, steps=12, loss=loss)
    numbers = newest(seen, "labels").numbers
    assert (numbers["batches"], numbers["batch_size"]) == (12, 32.0)
    assert numbers["batch_entropy"] == pytest.approx(math.log(2))


def test_labels_that_are_mixed_are_noticed() -> None:
    def mixed(scores: Tensor, labels: Tensor) -> Tensor:
        return 0.7 * F.cross_entropy(scores, labels) + 0.3 * F.cross_entropy(scores, labels.flip(0))

    for loss, passes in ((mixed, 12), (nn.CrossEntropyLoss(), 0)):
        model = net()
        with observed(model) as seen:
            loop(model, steps=12, loss=loss)
        assert newest(seen, "fit").numbers["mixed"] == passes


def test_labels_and_answers_of_training() -> None:
    model = net()
    with observed(model) as seen:
        loop(model, steps=12)
    numbers = newest(seen, "labels").numbers
    counts = torch.bincount(torch.cat([LABELS, LABELS])[: 12 * 16])[:4].float()
    shares = counts / counts.sum()
    assert numbers["entropy"] == pytest.approx(-(shares * shares.log()).sum().item(), rel=1e-5)
    assert numbers["batches"] == 12
    assert sum(o.numbers["samples"] for o in seen if o.kind == "fit") == 192


def test_the_same_order_in_every_epoch_is_noticed() -> None:
    identity = Identity()
    for _ in range(3):
        for batch in range(10):
            identity.trained(numpy.arange(4) + 100 * batch)
    assert identity.numbers()["epoch_batches"] == 10
    assert identity.numbers()["order_repeats"] == 10


def test_the_same_batch_in_two_passes_of_one_step_is_no_repetition() -> None:
    identity = Identity()
    for step in range(8):
        for _ in range(2):  # as sharpness-aware steps and two views of a sample do
            identity.trained(numpy.arange(4) + 100 * step, step=step)
    assert (identity.numbers()["train_images"], identity.numbers()["repeated_batches"]) == (32, 0.0)
    identity.trained(numpy.arange(4) + 700, step=8)
    assert identity.numbers()["repeated_batches"] == pytest.approx(1 / 8)


def test_how_much_a_sample_can_tell() -> None:
    real, switches = torch.randn(64, 2), torch.randint(0, 2, (64, 9)).float()
    users, items = torch.arange(64) % 60, torch.arange(64) % 40
    for inputs, bits in (((real,), 46.0), ((switches,), 9.0), ((users, items), math.log2(60) + math.log2(40))):
        deferred = Deferred()
        watch = PassWatch(nn.Linear(1, 1), deferred, lambda _: None)
        watch._count_levels(inputs)
        deferred.flush()
        assert watch.identity.bits == pytest.approx(bits)
        assert watch.identity.axes == inputs[0].ndim


def test_known_images_are_estimated_from_bounded_memory() -> None:
    identity, draw = Identity(), torch.Generator().manual_seed(0)
    hashes = torch.randint(-(2**62), 2**62, (4 * MOST_KNOWN,), generator=draw).numpy()
    for at in range(0, len(hashes), 256):
        identity.trained(hashes[at : at + 256])
    assert len(identity._known) <= MOST_KNOWN
    others = torch.randint(-(2**62), 2**62, (5000,), generator=draw).numpy()
    assert identity.known(numpy.concatenate([hashes[:5000], others])) == pytest.approx(5000, rel=0.1)


def test_hashes_tell_images_apart() -> None:
    for shape in ((3, 16, 16), (1, 28, 28), (1, 3, 3), (7,), (129,), (3, 1, 43), (1, 200, 1)):
        images = torch.rand(200, *shape, generator=torch.Generator().manual_seed(3))
        assert len(set(hashes_of(images).tolist())) == 200
        assert torch.equal(hashes_of(images[:7]), hashes_of(images)[:7])
        if len(shape) == 3:
            assert torch.equal(hashes_of(images.to(memory_format=torch.channels_last)), hashes_of(images))
    assert len(set(hashes_of(torch.arange(12).reshape(3, 4)).tolist())) == 3  # sequences of words, by their numbers
    assert hashes_of(torch.zeros(3)) is None


def test_small_whole_numbers_are_told_apart() -> None:
    users, items = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    assert len(set(hashes_of_inputs((users[:40].reshape(-1), items[:40].reshape(-1))).tolist())) == 40 * 80
    words = torch.cartesian_prod(*[torch.arange(8)] * 4)
    assert len(set(hashes_of(words).tolist())) == 8**4


def test_a_sample_is_all_that_the_network_is_given() -> None:
    users, items = torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2, 1, 2])
    assert len(set(hashes_of_inputs((users, items)).tolist())) == 4
    assert hashes_of_inputs((users[1:2], items[1:2])).item() != hashes_of_inputs((users[2:3], items[2:3])).item()  # swapped
    images, start = torch.rand(4, 8), torch.zeros(1, 4, 16)  # of a recurrent network: not one per sample
    assert torch.equal(hashes_of_inputs((images, start)), hashes_of(images))
    assert hashes_of_inputs(users) is None


@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        ([nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)], (2, 0, 2)),
        ([nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 4, 1)], (2, 2, 0)),
        ([nn.Linear(8, 2), nn.Linear(2, 6)], (1, 0, 1)),  # a product of two thin matrices
        ([nn.Linear(8, 4), nn.LeakyReLU(1.0), nn.Linear(4, 4), nn.LeakyReLU(0.1), nn.Linear(4, 3)], (2, 1, 1)),
        ([nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 3)], (2, 1, 0)),
    ],
)
def test_what_lies_between_weighted_layers(layers: list[nn.Module], pairs: tuple[int, int, int]) -> None:
    model = nn.Sequential(*layers)
    numbers = network_numbers(model, model(torch.randn(2, 1, 8, 8)))
    assert (numbers["pairs"], numbers["linear_pairs"], numbers["active_pairs"]) == pairs


@pytest.mark.parametrize(("activation", "linear"), [(nn.ReLU(), 1), (nn.Identity(), 5)])
def test_a_shortcut_around_an_activation_does_not_make_layers_linear(activation: nn.Module, linear: int) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Sequential(nn.Linear(8, 8), activation, nn.Dropout(0.5), nn.Linear(8, 8))

        def forward(self, hidden: Tensor) -> Tensor:
            return hidden + activation(self.inside(hidden))

    model = nn.Sequential(nn.Linear(8, 8), Block(), Block(), nn.Linear(8, 3))
    numbers = network_numbers(model, model(torch.randn(2, 8)))
    assert (numbers["pairs"], numbers["linear_pairs"], numbers["active_pairs"]) == (
        5,
        linear,
        5 - linear,
    )  # the first block follows a layer directly


def test_functional_activations_and_in_place_ones_are_seen() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.three(F.relu(self.two(torch.tanh(self.one(x))), inplace=True))

    model = Functional()
    numbers = network_numbers(model, model(torch.randn(2, 8)))
    assert (numbers["pairs"], numbers["linear_pairs"], numbers["active_pairs"], numbers["head"]) == (2, 0, 2, "three")


def test_fresh_weights_are_told_from_trained_ones() -> None:
    model = net()
    fresh = {name: p.detach() for name, p in model.named_parameters()}
    assert fresh_share(fresh) == 1.0
    trained = {"w": torch.distributions.StudentT(3.0).sample((32, 64)) * 0.07}
    assert fresh_share(trained) == 0.0


def test_deferred_numbers_come_back_in_order() -> None:
    queue, received = Deferred(), []
    queue.add(torch.tensor([1.5, 2.5]), received.append)
    queue.add_known([7.0], received.append)
    queue.add_codes(torch.tensor([2**40 + 1]), lambda codes: received.append(codes.tolist()))
    queue.add(torch.tensor(True), received.append)
    queue.flush()
    queue.flush()
    assert received == [[1.5, 2.5], [7.0], [2**40 + 1], [1]]


def test_equal_filters_are_noticed() -> None:
    model = net()
    nn.init.constant_(model[2].weight, 0.1)
    nn.init.constant_(model[2].bias, 0.0)
    nn.init.constant_(model[5].weight, 0.1)
    with observed(model) as seen:
        loop(model)
    filters = {(o.subject, o.step): o.numbers["identical"] for o in seen if o.kind == "filters"}
    assert filters["2", 0] == 1.0
    assert filters["0", 0] == 0.0


def test_layers_in_a_plain_list_are_noticed_when_they_do_not_move() -> None:
    model, hidden = net(), [nn.Linear(4, 32), nn.Linear(32, 4)]
    model.forward = lambda x: hidden[1](torch.relu(hidden[0](nn.Sequential.forward(model, x))))  # type: ignore[method-assign]
    with observed(model) as seen:
        loop(model, steps=25)
    strays = [o for o in seen if o.kind == "strays"]
    assert [(o.step, o.numbers["weights"], o.numbers["shapes"]) for o in strays] == [(20, 292, "4, 4 × 32, 32, 32 × 4")]
    assert strays[0].numbers["fresh"] == 1.0


def test_batch_norms_running_averages_against_the_batch() -> None:
    model = net(norm=True)
    with observed(model) as seen:
        loop(model, steps=11)
    last = [o for o in seen if o.kind == "batch_norm"][-1]
    assert last.numbers["values"] == 16 * 4 * 4
    assert last.numbers["updates"] == 11
    assert 0 <= last.numbers["mean_gap"] < 3


def test_a_pixel_that_is_not_a_number() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with observed(model) as seen:
        for step in range(10):
            images = IMAGES[:16].clone()
            if step == 4:
                images[3, 0, 2, 2] = math.nan
            optimizer.zero_grad()
            F.cross_entropy(model(images), LABELS[:16]).backward()
            optimizer.step()
    assert [(o.step, o.subject) for o in seen if o.kind == "non_finite"] == [(4, "input")]
