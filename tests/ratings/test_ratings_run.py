"""A run on ratings from the command to its page, recommendations and workbook."""

import csv
import json

import numpy as np
import pytest
import torch
from ratings_files import small, write_rows
from rich.console import Console

from convscope.cli import _range, main
from convscope.data import read_titles
from convscope.errors import DataError, UnknownNameError, UsageError
from convscope.rundir import open_run
from convscope.show.page import render
from convscope.train.predict import load_classifier
from convscope.train.ratings_predict import load_recommender
from convscope.train.runs import train_run
from convscope.train.settings import TrainSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("ratings")
    path = small(folder / "small.csv")
    with path.open("a") as file:
        file.write("u1,i1,hello\nu0,i0\n")
    with (folder / "said.txt").open("w") as said:
        result = train_run(
            TrainSettings(str(path), epochs=5, lr=0.02, device="cpu"), folder / "runs", console=Console(file=said, width=300)
        )
    return open_run(result["run"]), result, (folder / "said.txt").read_text()


def test_the_run_tells_its_data_its_rows_left_out_and_its_error(trained):
    run, result, said = trained
    lines = said.splitlines()
    assert lines[0].startswith("RatingLoaders(small: ")
    assert lines[1].endswith("2 rows were left out: line 359 (the rating 'hello' is no number), and others; skipped_rows.csv has them all")
    found = run.ratings()
    assert f"RMSE {found.rmse:.4f} on {found.count} validation ratings (always answering the mean: {found.baseline_rmse:.4f})" in said
    assert (result["rmse"], result["valid_loss"]) == (found.rmse, found.loss)
    assert found.rmse < 0.7 * found.baseline_rmse
    rows = list(csv.reader(run.skipped_rows.open()))
    assert rows == [["line", "reason"], ["359", "the rating 'hello' is no number"], ["360", "2 columns, where the header has 3 or more"]]
    table = list(csv.DictReader(run.results.open()))
    assert float(table[-1]["rmse"]) == pytest.approx(found.rmse, rel=1e-6)


def test_a_healthy_run_on_ratings_is_found_healthy(trained):
    _, result, _ = trained
    assert [finding["name"] for finding in result["findings"] if finding["severity"] == "problem"] == []


def test_the_page_shows_what_the_records_say(trained):
    run, _, _ = trained
    page, found = render(run), run.ratings()
    assert "confusion" not in page.split("<main")[1].split("<script")[0]
    for title in ("Most and least liked items", "The items&#x27; factors", "Most surprising ratings", "One rating, traced", "The data"):
        assert f">{title}</h2>" in page
    for item in found.most_liked + found.least_liked:
        assert repr(item.bias) in page
    for surprise in found.surprising:
        assert repr(surprise.predicted) in page
    values = json.loads(page.split('id="factors-values">')[1].split("</script>")[0])
    assert values["data"][0]["x"] == [item.x for item in found.picture]
    assert found.trace is not None
    for product in found.trace.products:
        assert repr(product) in page


def test_titles_range_split_and_factors_from_the_command_to_the_page(tmp_path, capsys, monkeypatch):
    path = small(tmp_path / "small.csv")
    stamped = [f"{line},{place}" for place, line in enumerate(path.read_text().splitlines()[1:])]
    write_rows(path, *stamped, header="user,item,rating,timestamp")
    long = "A title that is far too long to stand beside a bar"
    titles = write_rows(tmp_path / "titles.csv", f"i3,{long} <1>", f"i4,{long} <2>", "i99,Unseen", header="item,title")
    words = ["--factors", 3, "--split", "time", "--y-range", "0.5,5.5", "--titles", titles, "--epochs", 2, "--lr", 0.02, "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["convscope", "train", str(path), *map(str, words), "--out", str(tmp_path / "runs"), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    run = open_run(json.loads(capsys.readouterr().out)["run"])
    config, found = run.read_config(), run.ratings()
    assert (config["data"]["split"], config["data"]["y_range"], config["model"]["arguments"]["factors"]) == ("time", [0.5, 5.5], 3)
    assert config["argv"][3:] == [str(word) for word in ("--epochs", 2, "--lr", 0.02, "--device", "cpu", *words[:8])]
    assert TrainSettings.from_config(config["settings"]).y_range == (0.5, 5.5)
    assert found.titles == {"i3": f"{long} <1>", "i4": f"{long} <2>"}
    page = render(run)
    assert f'<span title="i3" class="title">{long} &lt;1&gt;</span>' in page
    bars = json.loads(page.split('id="biases-values">')[1].split("</script>")[0])
    assert bars["layout"]["yaxis"]["ticktext"].count("A title that is far too long…") == 2
    assert sorted(bars["data"][0]["y"]) == list(range(20))
    assert sum("&lt;1&gt;" in said for said in bars["data"][0]["hovertext"]) == 1
    assert "Operations for one pair of user and item" in page
    assert "real pixels" not in page
    assert load_recommender(run.path).titles == found.titles


def test_recommendations_are_the_best_that_the_user_has_not_rated(trained):
    run, _, _ = trained
    recommender = load_recommender(run.path)
    user = recommender.users.index("u3")
    rated = {item for who, item in recommender.rated_N2.tolist() if who == user}
    with torch.no_grad():
        scores = {i: float(recommender.model(torch.tensor([[user, i]]))) for i in range(1, len(recommender.items)) if i not in rated}
    best = sorted(scores, key=lambda item: -scores[item])
    found = recommender.top("u3", 4)
    assert [r.item for r in found] == [recommender.items[i] for i in best[:4]]
    assert [r.score for r in found] == pytest.approx([scores[i] for i in best[:4]], abs=1e-6)
    assert len(recommender.top("nobody", 100)) == len(recommender.items) - 1
    factors = recommender.model.item_factors.weight.detach().double().numpy()
    one = recommender.items.index("i3")
    likeness = factors @ factors[one] / np.maximum(np.linalg.norm(factors, axis=1) * np.linalg.norm(factors[one]), 1e-12)
    likeness[[0, one]] = -2
    assert [r.item for r in recommender.similar("i3", 3)] == [recommender.items[i] for i in np.argsort(-likeness)[:3]]


def test_the_command_line_recommends_with_titles_and_traces(trained, tmp_path, capsys, monkeypatch):
    run, _, _ = trained
    titles = write_rows(tmp_path / "titles.csv", *(f"i{n},Film {n}" for n in range(20)), header="item,title")

    def convscope(*words):
        monkeypatch.setattr("sys.argv", ["convscope", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    best = load_recommender(run.path).top("u3", 2)
    code, out, _ = convscope("predict", run.path, "--user", "u3", "--top", 2, "--titles", titles)
    assert code == 0
    assert out.splitlines()[0].split() == ["rating", "item", "title"]
    assert [line.split() for line in out.splitlines()[2:]] == [[f"{r.score:.3f}", r.item, "Film", r.item[1:]] for r in best]
    code, _, err = convscope("predict", run.path, "--user", "nobody")
    assert (code, err) == (0, "convscope: 'nobody' has no training rating, so these are what everybody likes.\n")
    code, _, err = convscope("predict", run.path)
    assert (code, err) == (2, "convscope: Give image files, or for a run on ratings one of --user USER and --similar-to ITEM.\n")
    code, out, _ = convscope("trace", run.path, "--user", "u3", "--item", "i4", "--json")
    value = json.loads(out)
    assert (code, value["user"], value["item"]) == (0, "u3", "i4")
    assert abs(value["difference"]) < 1e-6


def test_messages(trained, tmp_path):
    run, _, _ = trained
    with pytest.raises(UsageError) as error:
        load_classifier(run.path)
    assert str(error.value) == (
        f"{run.path} is a run on ratings, which knows users and items instead of images: convscope predict RUN --user USER."
    )
    with pytest.raises(UnknownNameError) as unknown:
        load_recommender(run.path).similar("i33")
    assert str(unknown.value).startswith("There is no item with a training rating 'i33'. Did you mean 'i3'")
    with pytest.raises(DataError) as damaged:
        read_titles(write_rows(tmp_path / "t.csv", header="item"))
    assert str(damaged.value) == f"{tmp_path / 't.csv'} holds no titles: its first line must name two columns or more, item and title."
    path = small(tmp_path / "r.csv")
    with pytest.raises(UsageError) as error:
        train_run(TrainSettings(str(path), image_size=32, device="cpu"), tmp_path / "runs")
    assert str(error.value) == f"--image-size is about images, and {path} holds ratings. Leave it out."
    with pytest.raises(UsageError) as error:
        train_run(TrainSettings("mnist", factors=5, device="cpu"), tmp_path / "runs")
    assert str(error.value) == "--factors is about ratings, and mnist holds images. Leave it out."
    with pytest.raises(UsageError) as error:
        _range("1-5")
    assert str(error.value) == "--y-range 1-5 is no range; give the lowest and the highest prediction, such as 0,5.5."
