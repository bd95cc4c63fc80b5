"""The command line: one function per verb, each a few lines over the library.

Every import that brings in torch stands inside its verb, so that `convscope --help` answers at once. Progress and messages go to stderr; with
`--json` the last line of stdout is one JSON object. Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from convscope.errors import ConvscopeError, UsageError
from convscope.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train convolutional networks on your images and see exactly what happens inside them.\n\nBegin with: convscope train mnist",
)

FEW_FILES = 1000  # predicted in about a second, which needs no progress bar

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/mnist-001.")]


def main() -> None:
    """Run the command line; errors become one clear message on stderr and an exit code."""
    try:
        app(prog_name="convscope")
    except ConvscopeError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except BrokenPipeError:  # the reader of our stdout has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _fail(
            f"Something unexpected went wrong in convscope itself: {type(error).__name__}: {error}\nSet CONVSCOPE_DEBUG=1 and run again to see where.",
            1,
        )


def _fail(message: str, code: int) -> None:
    if os.environ.get("CONVSCOPE_DEBUG") == "1":
        traceback.print_exc()
    print(f"convscope: {message}", file=sys.stderr)
    sys.exit(code)


def _print_json(value: dict[str, Any]) -> None:
    from convscope.records import to_json

    if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started, the main one prints
        return
    print(json.dumps(to_json(value), ensure_ascii=False, allow_nan=False), flush=True)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"convscope {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    pass


@app.command()
def train(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="mnist, a folder of images, or a CSV file of path,label or of user,item,rating.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="simple_cnn, small_resnet, or for ratings dot_product or rating_net; unless given, it suits the data."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; unless given, 512, or fewer for small data.")] = None,
    lr: Annotated[str, typer.Option(metavar="auto|FLOAT", help="Highest learning rate; auto asks the finder.")] = "auto",
    schedule: Annotated[
        Literal["one_cycle", "cosine", "constant"], typer.Option(help="What the rate does: rise and fall, fall, or stay.")
    ] = "one_cycle",
    seed: Annotated[int, typer.Option(help="Every random choice comes from it.")] = 0,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side; unless given, the data's median, at most 224.")] = None,
    valid_pct: Annotated[float, typer.Option(help="Share held out for validation where the data has no split of its own.")] = 0.2,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Shift, rotate, scale and flip; unless given, on for folders, off for mnist."),
    ] = None,
    class_weights: Annotated[Literal["auto", "none"], typer.Option(help="auto weighs rare classes more.")] = "none",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at files that cannot be read instead of leaving them out.")] = False,
    init: Annotated[
        str | None, typer.Option(help="How weights are drawn, such as kaiming_normal; unless given, the network's own way.")
    ] = None,
    norm: Annotated[
        bool | None, typer.Option("--norm/--no-norm", help="Batch norms in simple_cnn; unless given, the network's own way.")
    ] = None,
    init_from: Annotated[Path | None, typer.Option(metavar="RUN|FILE", help="Start from the weights of another run.")] = None,
    freeze_body: Annotated[bool, typer.Option("--freeze-body", help="With --init-from: train the last layer only.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="Arithmetic of the network.")] = "fp32",
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Deterministic algorithms only (needed on CUDA for a bit-exact resume).")
    ] = False,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled weight decay; unless given, 0.01, or 0.1 for ratings.")] = None,
    label_smoothing: Annotated[float, typer.Option(help="Share of each target spread over all classes.")] = 0.0,
    clip_norm: Annotated[float | None, typer.Option(help="Scale gradients down to this norm.")] = None,
    accumulate: Annotated[int, typer.Option(help="Batches whose gradients make one step.")] = 1,
    factors: Annotated[int | None, typer.Option(help="Of ratings: numbers that describe a user or an item; 50 unless given.")] = None,
    split: Annotated[Literal["random", "time"], typer.Option(help="Of ratings: hold out a random share, or the latest.")] = "random",
    y_range: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Of ratings: what predictions lie between; unless given, a little more than the data."),
    ] = None,
    titles: Annotated[Path | None, typer.Option(metavar="FILE", help="Of ratings: a CSV with the columns item and title.")] = None,
    out: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's name; unless given, counted up: mnist-001.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an unfinished run, with its own settings.")] = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Record every layer at every step.")] = True,
    heal: Annotated[
        bool, typer.Option("--heal", help="Where a problem has a fix that is a change of settings, make it and start again.")
    ] = False,
    ignore: Annotated[list[str] | None, typer.Option(metavar="RULE", help="Leave a rule of the diagnosis out; may be given again.")] = None,
    as_json: Json = False,
) -> None:
    """Train a network on images and write a run directory with a page."""
    from convscope.train.settings import TrainSettings

    if resume is None and data is None:
        raise UsageError("Say what to train on: convscope train mnist, convscope train FOLDER, or convscope train --resume RUN.")
    settings = TrainSettings(
        data=_place(data or ""),
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        lr=_rate(lr),
        seed=seed,
        image_size=image_size,
        valid_pct=valid_pct,
        augment=augment,
        class_weights=class_weights,
        strict=strict,
        init=init,
        init_from=str(init_from.absolute()) if init_from else None,
        freeze_body=freeze_body,
        device=device,
        precision=precision,
        deterministic=deterministic,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        clip_norm=clip_norm,
        accumulate=accumulate,
        watch=watch,
        ignore=tuple(ignore or ()),
        schedule=schedule,
        norm=norm,
        factors=factors,
        split=split,
        y_range=_range(y_range),
        titles=str(titles.absolute()) if titles else None,
    )
    from convscope.train.runs import resume_run, train_run

    result = resume_run(resume) if resume else train_run(settings, out, name, heal=heal)
    if as_json:
        _print_json(result)


def _place(data: str) -> str:
    """The data's path, absolute, so that the run can be resumed from another folder; "mnist" as it is."""
    return data if data in ("", "mnist") else str(Path(data).absolute())


def _rate(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--lr {text} is no learning rate; give a number above 0, such as 0.1, or auto for the finder's.") from None


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--y-range {text} is no range; give the lowest and the highest prediction, such as 0,5.5.") from None
    return low, high


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory or weights file.")],
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Image files, or folders of them.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table to a CSV file instead.")] = None,
    user: Annotated[str | None, typer.Option(help="Of a run on ratings: recommend items to this user.")] = None,
    similar_to: Annotated[str | None, typer.Option(metavar="ITEM", help="Of a run on ratings: list the items most like this one.")] = None,
    top: Annotated[int, typer.Option(help="How many items.")] = 10,
    titles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A CSV with the columns item and title; unless given, the run's.")
    ] = None,
) -> None:
    """Say what is on images, or recommend items, with a trained run."""
    from rich.console import Console
    from rich.progress import track

    from convscope.rundir import write_text
    from convscope.train.predict import as_csv, as_table, image_files, load_classifier

    if sum(map(bool, (paths, user is not None, similar_to is not None))) != 1:
        raise UsageError("Give image files, or for a run on ratings one of --user USER and --similar-to ITEM.")
    if not paths:
        _recommend(run, user, similar_to, top, titles)
        return

    files = image_files(paths)
    classifier = load_classifier(run)
    stream = classifier.predict_files(files)
    few = len(files) < FEW_FILES
    predictions = list(track(stream, "predicting", len(files), console=Console(stderr=True), transient=True, disable=few))
    if csv:
        write_text(csv, as_csv(predictions))
    else:
        print(as_table(predictions))
    failed = [p for p in predictions if p.error]
    for prediction in failed:
        print(f"convscope: {prediction.error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _recommend(run: Path, user: str | None, similar_to: str | None, top: int, titles: Path | None) -> None:
    from convscope.data import read_titles
    from convscope.train.ratings_predict import as_text, load_recommender

    recommender = load_recommender(run)
    known = read_titles(titles) if titles else recommender.titles
    if similar_to is not None:
        print(as_text(recommender.similar(similar_to, top), known, "likeness"))
        return
    assert user is not None
    if not recommender.number_of(user):
        print(f"convscope: {user!r} has no training rating, so these are what everybody likes.", file=sys.stderr)
    print(as_text(recommender.top(user, top), known, "rating"))


@app.command("lr-find")
def lr_find(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="mnist, a folder of images, or a CSV file of path,label or of user,item,rating.")
    ],
    model: Annotated[str | None, typer.Option(help="simple_cnn or small_resnet.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    seed: Annotated[int, typer.Option(help="Every random choice comes from it.")] = 0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the loss against the rate as a PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Suggest a learning rate: a short mock training with a growing rate."""
    from convscope.train.runs import find_rate
    from convscope.train.settings import TrainSettings

    found = find_rate(TrainSettings(data=data, model=model, batch_size=batch_size, seed=seed))
    if plot:
        found.save_plot(plot)
    if as_json:
        _print_json({"suggestion": found.suggestion, "lrs": found.lrs, "losses": found.losses})
    else:
        print(f"{found.suggestion:.3g}")


@app.command()
def summary(
    model: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run directory, or simple_cnn or small_resnet.")],
    input_size: Annotated[str | None, typer.Option(metavar="C,H,W", help="Shape of an image, for a model by name.")] = None,
    as_json: Json = False,
) -> None:
    """Show a network's layers, parameters and multiplications."""
    from convscope.records import to_json
    from convscope.train.describe import describe

    table = describe(model, input_size)
    if as_json:
        _print_json({"schema": 1, **to_json(table)})
    else:
        print(table)


@app.command()
def watch(
    command: Annotated[list[str], typer.Argument(metavar="-- python script.py ARGS...", help="The script to run, behind two dashes.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the verdict to FILE as one JSON object.")] = None,
    every: Annotated[int, typer.Option(help="Record layers at one step in so many.")] = 1,
    fail_on: Annotated[
        Literal["note", "warning", "problem"] | None, typer.Option(help="Exit with 3 when a finding is at least that severe.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's name; unless given, the script's.")] = None,
) -> None:
    """Run any PyTorch script, unchanged, and watch what it trains."""
    from convscope.watch.bootstrap import run_watched

    raise typer.Exit(run_watched(command, every=every, out=out, name=name, json_file=json_file, fail_on=fail_on))


@app.command()
def diagnose(
    run: RunArgument,
    ignore: Annotated[list[str] | None, typer.Option(metavar="RULE", help="Leave a rule out; may be given again.")] = None,
    as_json: Json = False,
) -> None:
    """Say what went wrong in a run, from its log."""
    from convscope.diagnose import diagnose_log, verdict_to_json
    from convscope.rundir import open_run
    from convscope.runlog import RunLog

    with RunLog.read(open_run(run).log) as log:
        verdict = diagnose_log(log, ignore=ignore or ())
    if as_json:
        _print_json(verdict_to_json(verdict))
    else:
        print(verdict)


@app.command()
def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory or weights file.")],
    image: Annotated[str | None, typer.Option(metavar="PATH|valid:INDEX", help="An image file, or one of the run's own images.")] = None,
    layer: Annotated[str | None, typer.Option(help="A layer's name, such as 2.0; unless given, the answer is traced.")] = None,
    unit: Annotated[str | None, typer.Option(metavar="C,R,COL", help="Channel, row and column; one number for a vector.")] = None,
    xlsx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a live workbook instead; with a unit, of what it depends on.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Of a run on ratings: whose rating.")] = None,
    item: Annotated[str | None, typer.Option(help="Of a run on ratings: the rating of what.")] = None,
    rating: Annotated[float | None, typer.Option(help="What the user gave, for the workbook's error.")] = None,
    as_json: Json = False,
) -> None:
    """Show the multiplications that made one activation, or one predicted rating."""
    from convscope.records import to_json
    from convscope.show.trace_text import format_trace
    from convscope.train.inspect import trace_run, workbook_of_run

    if (image is None) == (user is None or item is None):
        raise UsageError("Give --image PATH, or for a run on ratings --user USER and --item ITEM.")
    if image is None:
        assert user is not None
        assert item is not None
        _trace_rating(run, user, item, rating, xlsx, as_json)
        return

    place = _unit(unit)
    if xlsx:
        workbook_of_run(run, image, xlsx, layer, place)
        print(xlsx)
        return
    found = trace_run(run, image, layer, place)
    if as_json:
        _print_json({"schema": 1, "answer": found.answer, **to_json(found.trace)})
    else:
        print(format_trace(found.trace, found.pixels_CHW))


def _trace_rating(run: Path, user: str, item: str, rating: float | None, xlsx: Path | None, as_json: bool) -> None:
    from convscope.records import to_json
    from convscope.show.ratings_sheet import write_rating_workbook
    from convscope.train.ratings_predict import load_recommender

    found = load_recommender(run).trace(user, item, rating)
    if xlsx:
        write_rating_workbook(found, xlsx)
        print(xlsx)
    elif as_json:
        _print_json({"schema": 1, **to_json(found)})
    else:
        print(found)


def _unit(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdigit() for part in parts):
        raise UsageError(
            f"--unit {text} is no place; give channel, row and column counted from 0, such as 0,2,2, or one number for a vector."
        )
    return tuple(map(int, parts))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two or more run directories.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("comparison.html"),
) -> None:
    """Put runs side by side on one page: settings that differ, curves, statistics and verdicts."""
    from convscope.rundir import open_run
    from convscope.show.compare import write_comparison

    if len(runs) < 2:
        raise UsageError("Compare needs two run directories or more: convscope compare runs/mnist-001 runs/mnist-002.")
    print(write_comparison([open_run(run) for run in runs], out))


@app.command()
def report(run: RunArgument) -> None:
    """Write a run's page again."""
    from convscope.rundir import open_run
    from convscope.show.page import write_report

    print(write_report(open_run(run)))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory or weights file.")],
    onnx: Annotated[Path, typer.Option(metavar="FILE", help="The ONNX file to write.")],
) -> None:
    """Write a trained network as an ONNX file, normalisation included, and check it against PyTorch."""
    from convscope.train.export import export_onnx

    print(export_onnx(run, onnx))


@app.command()
def lab(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run to open, finished or not; or a folder that holds runs.")] = None,
    port: Annotated[int, typer.Option(help="Where to listen on this machine; 0 takes a free port.")] = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    out: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
) -> None:
    """Open the lab: a local web page to train, look inside, trace and learn."""
    from convscope.lab import run_lab

    run_lab(run, out=out, port=port, browser=browser)


@app.command()
def quiz(
    check: Annotated[bool, typer.Option("--check", help="Run all answers and the wrong ones, without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Learn: forty questions on convolutional networks, whose answers are computed on the spot."""
    from convscope.quiz import demonstrations, run_quiz

    if as_json and not check:
        raise UsageError("--json goes with --check: convscope quiz --check --json. Without --check the quiz is a dialogue.")
    if not check:
        run_quiz()
        return
    result = demonstrations.check()
    if as_json:
        _print_json(result)
    else:
        print(demonstrations.check_text(result))
    if result["failed"]:
        raise typer.Exit(1)
