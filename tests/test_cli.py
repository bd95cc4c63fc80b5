"""The command line as a user meets it: real processes, whole messages, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import write_folder

from convscope.cli import main


def convscope(*words: object, cwd: Path, limit_bytes: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        import resource

        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "convscope", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CONVSCOPE_CACHE": str(cwd / "cache"), "COLUMNS": "120", **environment}
    preexec = limit if limit_bytes is not None else None
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False, preexec_fn=preexec)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with images and one finished run, "runs/first"."""
    root = tmp_path_factory.mktemp("place")
    write_folder(root / "stripes", per_class=24)
    (root / "stripes" / "train" / "down" / "broken.png").write_bytes(b"")
    done = convscope("train", "stripes", "--model", "simple_cnn", "--epochs", 2, "--lr", 0.05, "--name", "first", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    (root / "first.json").write_text(done.stdout)
    (root / "first.err").write_text(done.stderr)
    return root


def test_help_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['convscope', '--help']\n"
        "try:\n    from convscope.cli import main; main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == "False\n"
    for verb in ("train", "predict", "lr-find", "summary", "report", "export"):
        assert verb in done.stdout


def test_train_prints_one_json_object_and_writes_the_run(place):
    [line] = (place / "first.json").read_text().splitlines()
    result = json.loads(line)
    run = Path(result["run"])
    assert run == (place / "runs" / "first").resolve()
    assert {"accuracy", "balanced_accuracy", "valid_loss", "epochs", "steps", "seconds"} <= set(result)
    assert (result["epochs"], result["steps"]) == (2, 12)
    names = {path.name for path in run.iterdir()}
    files = {"config.json", "weights.safetensors", "checkpoint", "log.sqlite", "results.csv", "report.html", "skipped_files.csv"}
    assert files <= names
    assert not [name for name in names if name.endswith(("-wal", "-shm"))]
    assert (run / "skipped_files.csv").read_text().splitlines()[1].startswith("train/down/broken.png,")
    rows = (run / "results.csv").read_text().splitlines()
    assert rows[0] == "epoch,steps,train_loss,valid_loss,accuracy,balanced_accuracy,seconds"
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "6"], ["2", "12"]]
    assert rows[-1].split(",")[4] == str(result["accuracy"])


def test_progress_reads_well_in_a_log_file(place):
    lines = (place / "first.err").read_text().splitlines()
    assert lines[0] == "DataLoaders(stripes: 48 training + 48 validation images of 1x28x28, 2 classes, batches of 8)"
    assert any(line.startswith("  note: 1 file was left out: train/down/broken.png (") for line in lines)
    header = next(index for index, line in enumerate(lines) if line.split()[:3] == ["epoch", "train", "loss"])
    assert [line.split()[0] for line in lines[header + 1 : header + 3]] == ["1/2", "2/2"]
    assert lines[-1].startswith("accuracy ")
    assert lines[-1].endswith(f"the page is {(place / 'runs' / 'first').resolve() / 'report.html'}")
    assert "\x1b" not in "".join(lines)


def test_predict_table_csv_and_unreadable_files(place):
    image = place / "stripes" / "valid" / "down"
    done = convscope("predict", "runs/first", image, cwd=place)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 24
    assert done.stdout.split()[0] in ("across", "down")
    broken = place / "stripes" / "train" / "down" / "broken.png"
    done = convscope("predict", "runs/first", broken, next(iter(image.iterdir())), "--csv", "out.csv", cwd=place)
    assert done.returncode == 1
    rows = (place / "out.csv").read_text().splitlines()
    assert rows[0] == "path,label,confidence,error"
    assert rows[1].startswith(f"{broken},,,")
    assert rows[2].split(",")[1] in ("across", "down")
    assert done.stderr.startswith(f"convscope: {broken} cannot be used as an image: ")


def test_export_agrees_and_carries_its_preprocessing(place):
    onnx = pytest.importorskip("onnx")
    done = convscope("export", "runs/first", "--onnx", "net.onnx", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "on 16 of its validation images" in done.stdout
    metadata = {entry.key: entry.value for entry in onnx.load(place / "net.onnx").metadata_props}
    assert json.loads(metadata["classes"]) == ["across", "down"]
    assert metadata["input"] == "uint8, (batch, 1, 28, 28), channels in the order grey, values 0 to 255"
    assert "crop the centre to 28 by 28 pixels" in metadata["preprocessing"]


def test_summary_of_a_model_and_of_a_run(place):
    table = json.loads(convscope("summary", "simple_cnn", "--json", cwd=place).stdout)
    assert sum(row["macs"] for row in table["rows"]) == 248_864
    done = convscope("summary", "runs/first", cwd=place)
    assert done.returncode == 0
    assert "Conv2d" in done.stdout


def test_init_from_another_run_replaces_the_head_when_classes_differ(place):
    third = place / "three" / "train"
    write_folder(place / "three", per_class=10)
    for split in ("train", "valid"):
        (place / "three" / split / "extra").mkdir()
        for file in list((place / "three" / split / "down").iterdir())[:5]:
            (place / "three" / split / "extra" / file.name).write_bytes(file.read_bytes())
    assert third.exists()
    words = ("train", "three", "--model", "simple_cnn", "--epochs", 1, "--lr", 0.01, "--init-from", "runs/first", "--freeze-body")
    done = convscope(*words, cwd=place)
    assert done.returncode == 0, done.stderr
    from safetensors.numpy import load_file

    old, new = (load_file(place / "runs" / name / "weights.safetensors") for name in ("first", "three-001"))
    assert (old["0.0.weight"] == new["0.0.weight"]).all()
    assert old["4.0.weight"].shape[0] == 2
    assert new["4.0.weight"].shape[0] == 3


ERRORS = [
    (["train"], 2, "Say what to train on: convscope train mnist, convscope train FOLDER, or convscope train --resume RUN."),
    (["train", "mnist", "--lr", "fast"], 2, "--lr fast is no learning rate; give a number above 0, such as 0.1, or auto for the finder's."),
    (["train", "mnist", "--lr", "nan"], 2, "--lr nan is no learning rate; give a number above 0, such as 0.1, or auto for the finder's."),
    (["train", "mnist", "--epochs", "0"], 2, "--epochs 0 is too few; give 1 or more."),
    (["train", "mnist", "--valid-pct", "1.5"], 2, "--valid-pct 1.5 is no share; give a number between 0 and 1, such as 0.2."),
    (["train", "mnist", "--freeze-body"], 2, "--freeze-body needs --init-from: a body that was never trained is not worth freezing."),
    (
        ["train", "mnist", "--name", "../x"],
        2,
        "--name '../x' cannot name a folder. Use letters, digits, '.', '_' and '-', beginning with a letter or digit.",
    ),
    (
        ["train", "mnist", "--model", "simple_cn"],
        2,
        "There is no model 'simple_cn'. Did you mean 'simple_cnn'? Known: 'simple_cnn', 'small_resnet'.",
    ),
    (
        ["train", "mnist", "--out", "first.json"],
        1,
        "first.json cannot hold runs: it, or a part of it, is a file. Give another folder with --out.",
    ),
    (
        ["train", "--resume", "nowhere"],
        1,
        "There is no run directory nowhere. Give the folder that `convscope train` or `watch` printed, such as runs/mnist-001.",
    ),
    (
        ["report", "stripes"],
        1,
        "stripes is not a run directory: it has no config.json. A run directory is what `convscope train` or `watch` writes.",
    ),
    (["predict", "runs/first", "no.png"], 1, "There is no file or folder no.png. Give image files, or folders that hold some."),
    (["summary", "resnet50"], 2, "'resnet50' is neither a run directory nor a model. The models are simple_cnn, small_resnet."),
    (["summary", "simple_cnn", "--input-size", "28"], 2, "--input-size 28 is no shape; give channels, rows and columns, such as 3,32,32."),
]


@pytest.mark.parametrize(("words", "code", "message"), ERRORS, ids=[" ".join(words) for words, _, _ in ERRORS])
def test_wrong_usage_is_one_clear_message(place, words, code, message, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["convscope", *words])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert (end.value.code, told.out) == (code, "")
    assert told.err.splitlines()[-1] == f"convscope: {message}"
    assert "Traceback" not in told.err


def test_a_traceback_only_when_asked_for(place):
    done = convscope("report", "nowhere", cwd=place, CONVSCOPE_DEBUG="1")
    assert "Traceback" in done.stderr


def test_weights_that_are_a_pickle_are_refused(place):
    import torch

    torch.save({"a": torch.zeros(1)}, place / "weights.pt")
    done = convscope("train", "stripes", "--init-from", "weights.pt", cwd=place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"convscope: {place / 'weights.pt'} is a pickle (what torch.save writes), and loading a pickle can run any code that is hidden in it, "
        "so convscope does not. If you trust it, convert it once in Python: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')."
    )


def test_a_truncated_checkpoint_is_refused_and_the_weights_stay(place, tmp_path):
    import shutil

    shutil.copytree(place / "runs" / "first", tmp_path / "run")
    run = tmp_path / "run"
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "status": "running"}))
    state = run / "checkpoint" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:5000])
    weights = (run / "weights.safetensors").read_bytes()
    done = convscope("train", "--resume", run, cwd=place)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"convscope: {state.resolve()} is damaged, cut off, or not a safetensors file (")
    assert last.endswith("Restore it from a copy, or train again.")
    assert (run / "weights.safetensors").read_bytes() == weights


def test_a_full_disk_is_told_and_earlier_work_stays(place):
    pytest.importorskip("resource")
    done = convscope(
        "train", "stripes", "--model", "small_resnet", "--epochs", 1, "--lr", 0.01, "--name", "full", cwd=place, limit_bytes=300_000
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"convscope: {(place / 'runs' / 'full').resolve() / 'weights.safetensors'} cannot be written: File too large. "
        "Free some space or give another folder with --out."
    )
    assert (place / "runs" / "first" / "weights.safetensors").exists()
    config = json.loads((place / "runs" / "full" / "config.json").read_text())
    assert config["status"] == "failed"


def run_main(monkeypatch, capsys, place, *words):
    """The command line in this process, from the folder `place`; what it printed on stdout."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["convscope", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 0, told.err
    return told.out


def test_trace_adds_up_to_the_networks_own_value(place, monkeypatch, capsys):
    words = ("trace", "runs/first", "--image", "valid:0", "--layer", "1.0", "--unit", "0,2,2")
    found = json.loads(run_main(monkeypatch, capsys, place, *words, "--json"))
    assert (found["layer"], found["unit"], found["answer"] in ("across", "down")) == ("1.0", [0, 2, 2], True)
    assert sum(term["product"] for term in found["terms"]) + found["bias"] == pytest.approx(found["value"], abs=1e-6 * found["magnitude"])
    assert found["receptive_field"] == {"top": 4, "left": 4, "bottom": 12, "right": 12}
    assert "it can see rows 4 to 12 and columns 4 to 12 of the image" in run_main(monkeypatch, capsys, place, *words)
    assert run_main(monkeypatch, capsys, place, *words, "--xlsx", "unit.xlsx") == "unit.xlsx\n"
    assert (place / "unit.xlsx").stat().st_size > 5000


def test_diagnose_says_what_a_saved_run_shows(place, monkeypatch, capsys):
    verdict = json.loads(run_main(monkeypatch, capsys, place, "diagnose", "runs/first", "--json"))
    assert (verdict["schema"], verdict["verdict"], verdict["steps"]) == (1, "too_early", 12)
    assert {"findings", "not_checked"} <= set(verdict)
    text = run_main(monkeypatch, capsys, place, "diagnose", "runs/first")
    assert text.startswith("It is too early to say (12 steps).\n")


def test_compare_writes_one_page(place, monkeypatch, capsys):
    (line,) = run_main(monkeypatch, capsys, place, "compare", "runs/first", "runs/first", "--out", "both.html").splitlines()
    assert Path(line).name == "both.html"
    assert "first" in (place / "both.html").read_text(encoding="utf-8")
