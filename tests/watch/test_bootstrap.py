"""Scripts written as different people would, run as they are and watched."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.errors import RunError, UsageError
from convscope.records import Finding, Fix, NotChecked, Verdict
from convscope.rundir import open_run
from convscope.runlog import RunLog
from convscope.watch.bootstrap import SITE, joined, run_watched

SCRIPTS = Path(__file__).with_name("scripts")
WATCH = "import sys; from convscope.watch.bootstrap import run_watched; sys.exit(run_watched(sys.argv[2:], out=sys.argv[1], json_file=sys.argv[1] + '/v.json'))"


def watched(tmp_path, *command):
    """The plain and the watched run of a command, and the log of the latter."""
    plain = subprocess.run([sys.executable, *command], capture_output=True, cwd=tmp_path, check=False)
    (tmp_path / "runs").mkdir()
    arguments = [sys.executable, "-c", WATCH, str(tmp_path / "runs"), sys.executable, *command]
    seen = subprocess.run(arguments, capture_output=True, cwd=tmp_path, check=False)
    assert seen.stdout == plain.stdout, seen.stderr.decode()
    assert seen.returncode == plain.returncode, seen.stderr.decode()
    return plain, seen, next((RunLog.read(path) for path in (tmp_path / "runs").glob("*/log.sqlite")), None)


def losses(log):
    return [record.loss.last for record in log.steps()]


def printed(output, place):
    return [float(line.split()[place]) for line in output.decode().splitlines() if "accuracy" not in line]


def test_an_ordinary_script_with_arguments(tmp_path):
    plain, seen, log = watched(tmp_path, str(SCRIPTS / "argparse_script.py"), "--epochs", "3")
    assert losses(log) == pytest.approx(printed(plain.stdout, 3), abs=1e-8)
    assert list(log.layers()) == ["conv1", "relu", "conv2", "relu:1", "dropout", "fc", "log_softmax"]
    assert [round(record.hyper["lr"].last, 6) for record in log.steps()] == [0.1] * 3 + [0.05] * 3 + [0.025] * 3
    assert [record.count for record in log.layers()["conv1"]] == [20 * 6 * 10 * 10] * 9
    run = open_run(next((tmp_path / "runs").glob("argparse_script-*")))
    assert run.report.exists()
    assert f"convscope: The page: {run.report}" in seen.stderr.decode()
    verdict = json.loads((tmp_path / "runs" / "v.json").read_text())
    assert (verdict["schema"], verdict["verdict"], verdict["steps"]) == (1, "too_early", 9)


def test_a_trainer_class_with_a_loader_process_and_an_exit_code(tmp_path):
    plain, _, log = watched(tmp_path, str(SCRIPTS / "trainer_class.py"))
    assert plain.returncode == 5
    assert losses(log) == pytest.approx(printed(plain.stdout, 1), abs=1e-8)
    assert list(log.layers()) == ["0", "1", "2", "3", "5"]
    assert {"lr", "lr:1", "weight_decay", "weight_decay:1"} <= set(log.steps()[0].hyper)
    assert log.steps()[0].gradient_norm.last > 0


def test_accumulated_batches_are_one_step(tmp_path):
    plain, _, log = watched(tmp_path, str(SCRIPTS / "accumulation_script.py"))
    halves = printed(plain.stdout, 1)  # what backward was called on: the loss over two
    assert losses(log) == pytest.approx([halves[at] + halves[at + 1] for at in range(0, 8, 2)])  # the mean of what the loss function gave
    assert [record.count for record in log.layers()["1"]] == [2 * 10 * 16] * 4


def test_mixed_precision_and_a_loss_of_ones_own(tmp_path):
    plain, _, log = watched(tmp_path, str(SCRIPTS / "autocast_script.py"))
    assert losses(log) == pytest.approx(printed(plain.stdout, 0))
    assert (
        list(log.layers()) == ["0", "1.conv", "1.norm", "1.act", "2.conv", "2.norm", "2.act", "3", "5", "log_softmax"][: len(log.layers())]
    )


def test_an_optimizer_that_calls_the_loss_itself(tmp_path):
    plain, _, log = watched(tmp_path, str(SCRIPTS / "closure_script.py"))
    assert len(log.steps()) == len(plain.stdout.splitlines()) == 4
    assert all(record.count >= 50 * 20 for record in log.layers()["0"])


def test_two_networks_are_told_apart(tmp_path):
    plain, _, log = watched(tmp_path, str(SCRIPTS / "two_models_script.py"))
    assert next(iter(log.layers())) == "Generator/main.0"
    assert "Discriminator/main.1" in log.layers()
    assert len(log.steps()) == 8
    assert losses(log)[1::2] == pytest.approx(printed(plain.stdout, 2))
    assert not any(math.isnan(loss) for loss in losses(log))


def test_a_script_that_fails_keeps_its_traceback_and_code(tmp_path):
    (tmp_path / "fails.py").write_text("import torch\nprint('before')\nraise ValueError('mine')\n")
    plain, seen, log = watched(tmp_path, "fails.py")
    assert plain.returncode == 1
    assert log is None
    assert seen.stderr.decode().startswith(plain.stderr.decode())
    assert "convscope: No training was seen: no network whose parameters an optimiser holds was run with gradients." in seen.stderr.decode()


def test_the_script_s_own_sitecustomize_is_loaded_too(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('mine')\n")
    environment = {**os.environ, "PYTHONPATH": f"{SITE}{os.pathsep}{tmp_path / 'own'}"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(any('site' == p[-4:] for p in sys.path))"], env=environment, capture_output=True
    )
    assert done.stdout.split() == [b"mine", b"False"]


def test_a_python_without_convscope_says_how_to_install_it(tmp_path):
    (tmp_path / "torch.py").write_text("")  # stands for an installed torch
    environment = {**os.environ, "PYTHONPATH": f"{SITE}{os.pathsep}{tmp_path}", "CONVSCOPE_WATCH": "{}"}
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'packages' not in p and 'src' not in p]; "
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; import torch"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == (
        f"convscope is not installed in the Python that runs this script ({sys.executable}). "
        f"Install it there with: {sys.executable} -m pip install convscope"
    )


TEACHER_AND_STUDENT = """
import torch
from torch import nn
torch.manual_seed(0)
images, labels = torch.randn(64, 1, 8, 8), torch.randint(0, 3, (64,))
def train(steps, lr, soft=None):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        target = labels if soft is None else soft(images).softmax(1)
        loss = nn.functional.cross_entropy(model(images), target)
        loss.backward()
        optimizer.step()
        print(step, loss.item())
    return model
teacher = train(5, 1e-2).eval().requires_grad_(False)
train(7, 1e-2, soft=teacher)
"""


def test_networks_trained_one_after_another_get_a_run_each_and_one_verdict(tmp_path):
    (tmp_path / "distil.py").write_text(TEACHER_AND_STUDENT)
    plain, seen, _ = watched(tmp_path, "distil.py")
    runs = sorted((tmp_path / "runs").glob("distil-*"))
    assert [run.name for run in runs] == ["distil-001", "distil-002"]
    every_loss = [float(line.split()[1]) for line in plain.stdout.decode().splitlines()]
    for run, expected in zip(runs, (every_loss[:5], every_loss[5:]), strict=True):
        with RunLog.read(run / "log.sqlite") as log:
            assert losses(log) == pytest.approx(expected)
        assert (run / "report.html").exists()
    verdict = json.loads((tmp_path / "runs" / "v.json").read_text())
    assert (verdict["verdict"], verdict["steps"]) == ("too_early", 12)
    assert seen.stderr.decode().count("convscope: Watched ") == 2


def test_a_layer_may_be_replaced_between_two_trainings(tmp_path):
    (tmp_path / "tune.py").write_text(
        "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nnet = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))\n"
        "x, y = torch.randn(20, 8), torch.randint(0, 3, (20,))\n"
        "for part in range(2):\n    optimizer = torch.optim.SGD(net.parameters(), 0.1)\n    for _ in range(4):\n"
        "        loss = nn.functional.cross_entropy(net(x), y)\n        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n"
        "        print(part, loss.item())\n    net[2] = nn.Linear(16, 3)\n"
    )
    plain, seen, _ = watched(tmp_path, "tune.py")
    assert (seen.stdout, seen.returncode) == (plain.stdout, 0), seen.stderr.decode()
    assert sorted(run.name for run in (tmp_path / "runs").glob("tune-*")) == ["tune-001", "tune-002"]


def test_one_verdict_on_several_trainings_is_the_worst_with_its_findings_first():
    def finding(name, severity):
        return Finding(name, severity, "", 0, "It is so.", Fix("Change it."))

    noted = Verdict("note", 10, (finding("overfitting", "note"),), (NotChecked("label_noise", "no labels were seen"),))
    broken = Verdict("problem", 20, (finding("non_finite", "problem"),), (NotChecked("label_noise", "no labels were seen"),))
    both = joined([noted, broken])
    assert (both.verdict, both.steps, [one.name for one in both.findings]) == ("problem", 30, ["non_finite", "overfitting"])
    assert both.not_checked == noted.not_checked
    assert joined([noted]) is noted
    assert joined([]) == Verdict("too_early", 0)


def test_the_exit_code_tells_of_findings_when_asked(tmp_path, capfd):
    script = tmp_path / "forgets.py"
    script.write_text(
        "import torch\nfrom torch import nn\nm = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\no = torch.optim.SGD(m.parameters(), 0.1)\n"
        "for i in range(60):\n    nn.functional.cross_entropy(m(torch.randn(8, 1, 8, 8)), torch.randint(0, 3, (8,))).backward()\n    o.step()\n"
    )
    assert run_watched([str(script)], out=tmp_path, fail_on="problem") == 3
    assert run_watched([str(script)], out=tmp_path) == 0
    assert "problem: " in capfd.readouterr().err


def test_wrong_use_is_told(tmp_path):
    with pytest.raises(
        UsageError, match=r"^There is no command to watch\. Put it behind two dashes: convscope watch -- python script\.py ARGS$"
    ):
        run_watched([])
    with pytest.raises(UsageError, match=r"^The command 'no-such-program' was not found\."):
        run_watched(["no-such-program"], out=tmp_path)
    never = [sys.executable, "-c", "raise SystemExit('the script ran')"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        run_watched(never, out=tmp_path, json_file=tmp_path / "file" / "verdict.json")
    assert (
        str(caught.value) == f"--json {tmp_path}/file/verdict.json cannot be written: File exists ({tmp_path}/file). Choose another place."
    )
    with pytest.raises(UsageError) as caught:
        run_watched(never, out=tmp_path, json_file=tmp_path)
    assert str(caught.value) == f"--json {tmp_path} is a folder. Give a file, such as {tmp_path}/verdict.json."
    with pytest.raises(UsageError, match=r"^--fail-on 'bad' is no severity\. Use one of: note, warning, problem\.$"):
        run_watched(["python"], fail_on="bad")


TRAIN = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
def train(steps=5):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(12, 8)), torch.randint(0, 3, (12,)))
        loss.backward()
        optimizer.step()
    print(loss.item(), flush=True)
train()
"""


def test_a_script_that_scripts_traces_and_saves_its_network(tmp_path):
    (tmp_path / "exports.py").write_text(
        TRAIN
        + """
def scripted():
    @torch.jit.script
    def double(values: torch.Tensor):
        return 2 * values
    return double(torch.ones(2))
print(scripted(), torch.jit.script(model).code, torch.jit.trace(model, torch.ones(1, 8)).code)
torch.save(model, "model.pt")
train()
"""
    )
    _, _, log = watched(tmp_path, "exports.py")
    assert len(log.steps()) == len(log.layers()["0"]) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_that_are_forked_are_left_alone(tmp_path):
    (tmp_path / "forks.py").write_text(
        TRAIN
        + """
import multiprocessing
import time
def child():
    torch.set_num_threads(1)
    model.register_forward_pre_hook(lambda *_: time.sleep(0.05))
    train(40)
for _ in range(2):
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    print(process.exitcode)
train()
"""
    )
    plain, seen, log = watched(tmp_path, "forks.py")
    told = [line for line in seen.stderr.decode().splitlines() if not line.startswith("convscope: ")]
    assert told == plain.stderr.decode().splitlines()
    assert len(log.steps()) == 10
    assert [run.name for run in (tmp_path / "runs").glob("forks-*")] == ["forks-001"]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_request_to_end_is_handed_on_and_the_page_is_written(tmp_path):
    (tmp_path / "saves.py").write_text(
        "import signal, sys, time\n"
        + TRAIN
        + "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(4)))\nprint('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "runs").mkdir()
    arguments = [sys.executable, "-c", WATCH, str(tmp_path / "runs"), sys.executable, "saves.py"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if line == b"ready\n":
            break
    process.send_signal(signal.SIGTERM)
    rest, told = process.communicate(timeout=60)
    assert (rest, process.returncode) == (b"saved\n", 4)
    assert b"convscope: The page: " in told


def test_a_wrong_name_or_place_is_told_before_the_script_runs(tmp_path):
    never = [sys.executable, "-c", "raise SystemExit('the script ran')"]
    with pytest.raises(UsageError) as caught:
        run_watched(never, out=tmp_path, name="a/b")
    assert str(caught.value) == (
        "--name 'a/b' cannot name a folder. Use letters, digits, '.', '_' and '-', beginning with a letter or digit."
    )
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as failed:
        run_watched(never, out=tmp_path / "file" / "runs")
    assert str(failed.value) == (
        f"{tmp_path / 'file' / 'runs'} cannot hold runs: it, or a part of it, is a file. Give another folder with --out."
    )


def test_why_nothing_was_seen(tmp_path, capfd):
    (tmp_path / "train.py").write_text(TRAIN)
    told = tmp_path / "verdict.json"
    assert run_watched([sys.executable, "-I", str(tmp_path / "train.py")], out=tmp_path / "runs", json_file=told) == 0
    verdict = json.loads(told.read_text(encoding="utf-8"))
    assert (verdict["verdict"], verdict["steps"], len(verdict["not_checked"])) == ("too_early", 0, 28)
    assert {entry["why"] for entry in verdict["not_checked"]} == {
        "no training was seen: the command imported no PyTorch, or its Python was told to ignore PYTHONPATH (-E, -I or -S)"
    }
    assert capfd.readouterr().err == (
        "convscope: No training was seen: the command imported no PyTorch, or its Python was told to ignore PYTHONPATH (-E, -I or -S). "
        "Nothing was written.\n"
    )
    assert not (tmp_path / "runs").exists()
