import dataclasses
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope import logfile
from convscope.errors import RunError
from convscope.records import EpochRecord, Evidence, Finding, Fix, Histogram, LayerStats, Observation, Range, StepRecord, to_json
from convscope.runlog import KEPT_FIRST, KEPT_OBSERVATIONS, RunLog, merge_all, merged


def layer_of(values, step, layer="0.0", **more):
    """The slow obvious statistics of a few finite numbers."""
    mean = sum(values) / len(values)
    return LayerStats(
        layer=layer,
        first_step=step,
        last_step=step,
        count=len(values),
        mean=mean,
        m2=sum((value - mean) ** 2 for value in values),
        minimum=min(values),
        maximum=max(values),
        kind="Conv2d",
        sample_count=len(values),
        histogram=Histogram(200 + step % 7, (len(values) - 1, 1)),
        positive=bytes([1 << (step % 8), 0]),
        channels=10,
        positive_samples=2,
        **more,
    )


def step_of(number, loss=1.0):
    return StepRecord(
        number, number, number / 10, Range.of(loss), {"lr": Range.of(0.1), "momentum": Range.of(math.nan)}, Range.of(2.0), Range.of(0.01)
    )


def finding_of(name="dead_units", step=3):
    return Finding(
        name,
        "problem",
        "2.0",
        step,
        "Layer 2.0 is dead.",
        Fix("Divide lr by 10.", {"lr": 0.006}),
        (Evidence("dead", 0.9, "share"),),
        "own",
        None,
    )


def journal_mode(path):
    connection = sqlite3.connect(path)
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()
    return mode


def assert_close(one, two):
    """Equal but for the last digits of floats: when rows were flushed decides in which order they were added."""
    if isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            assert_close(one[key], two[key])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert_close(left, right)
    else:
        assert one == (pytest.approx(two, rel=1e-12) if isinstance(two, float) else two)


def same(one, two):
    """Equal records, NaN equal to NaN."""
    return repr(one) == repr(two)


# ---------------------------------------------------------------- writing and reading


def test_everything_comes_back_as_it_was_written(tmp_path):
    layer = dataclasses.replace(layer_of([0.1, 0.2], 4), sampled=("mean", "m2"), update_ratio=1e-3, parameter_records=1, non_finite=True)
    with RunLog.create(tmp_path / "log.sqlite") as log:
        log.step(step_of(4, loss=math.inf))
        log.step(StepRecord(5, 5, math.nan, Range.of(math.nan)))
        log.layer(layer)
        log.observe(Observation(4, "modes", "0.0", {"training": True, "share": 0.5, "name": "x", "nothing": None}))
        log.epoch(EpochRecord(1, 5, 0.5, math.nan, {"accuracy": 0.9}, 1.5))
        log.finding(finding_of())
        log.set("model", {"classes": ["a", "b"]})
    log = RunLog.read(tmp_path / "log.sqlite")
    assert same(log.steps(), [step_of(4, loss=math.inf), StepRecord(5, 5, math.nan, Range.of(math.nan))])
    assert same(log.layers(), {"0.0": [layer]})
    assert log.observations() == [Observation(4, "modes", "0.0", {"training": True, "share": 0.5, "name": "x", "nothing": None})]
    assert same(log.epochs(), [EpochRecord(1, 5, 0.5, math.nan, {"accuracy": 0.9}, 1.5)])
    assert log.findings() == [finding_of()]
    assert log.get("model") == {"classes": ["a", "b"]}
    assert log.get("absent", 7) == 7
    assert log.layer_records("no such layer") == []


def test_layers_keep_the_order_in_which_they_came():
    log = RunLog.create()
    for step in range(3):
        for name in ("9", "1", "5"):
            log.layer(layer_of([1.0, 2.0], step, name))
    assert list(log.layers()) == ["9", "1", "5"]
    assert [record.first_step for record in log.layers(after=1)["1"]] == [2]


def test_the_file_is_alone_and_in_rollback_mode_after_close(tmp_path):
    with RunLog.create(tmp_path / "log.sqlite") as log:
        log.step(step_of(0))
        log.flush()
        assert journal_mode(tmp_path / "log.sqlite") == "wal"
    assert [path.name for path in tmp_path.iterdir()] == ["log.sqlite"]
    assert journal_mode(tmp_path / "log.sqlite") == "delete"


def test_closing_while_somebody_reads_is_no_failure(tmp_path, recwarn):
    log = RunLog.create(tmp_path / "log.sqlite")
    log.step(step_of(0))
    log.flush()
    reader = RunLog.read(tmp_path / "log.sqlite")
    assert len(reader.steps()) == 1
    log.close()
    assert len(reader.steps()) == 1
    assert not recwarn.list


def test_a_closed_log_in_a_read_only_folder_can_be_read(tmp_path, monkeypatch):
    with RunLog.create(tmp_path / "log.sqlite") as log:
        log.step(step_of(0))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert len(RunLog.read(tmp_path / "log.sqlite").steps()) == 1


def test_a_reader_sees_what_was_flushed_while_it_is_written(tmp_path):
    with RunLog.create(tmp_path / "log.sqlite") as log, RunLog.read(tmp_path / "log.sqlite") as reader:
        log.step(step_of(0))
        assert reader.steps() == []
        log.flush()
        assert len(reader.steps()) == 1
        log.step(step_of(1))
        log.flush()
        assert [record.first_step for record in reader.steps(after=0)] == [1]


def test_it_flushes_by_itself_when_time_has_passed(tmp_path, monkeypatch):
    monkeypatch.setattr("convscope.runlog.FLUSH_SECONDS", 0.05)
    log = RunLog.create(tmp_path / "log.sqlite")
    reader = RunLog.read(tmp_path / "log.sqlite")
    log.step(step_of(0))
    time.sleep(0.06)
    log.step(step_of(1))
    assert len(reader.steps()) == 2


def test_sigkill_loses_at_most_a_second(tmp_path):
    script = """
        import sys, time
        from convscope.records import Range, StepRecord
        from convscope.runlog import RunLog
        log, step = RunLog.create(sys.argv[1]), 0
        while True:
            log.step(StepRecord(step, step, 0.0, Range.of(time.time())))
            print(step, flush=True)
            step += 1
            time.sleep(0.01)
    """
    path = tmp_path / "log.sqlite"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(path)], stdout=subprocess.PIPE)
    time.sleep(2.0)
    killed_at = time.time()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    steps = RunLog.read(path).steps()
    assert [record.first_step for record in steps] == list(range(len(steps)))
    assert killed_at - steps[-1].loss.last < 1.0
    with RunLog.append_to(path) as log:  # and it can be written on
        log.step(StepRecord(len(steps), len(steps), 0.0, Range.of(0.0)))
    assert len(RunLog.read(path).steps()) == len(steps) + 1


def test_it_can_be_copied_from_memory_to_a_file(tmp_path):
    log = RunLog.create()
    log.step(step_of(0))
    log.copy_to(tmp_path / "log.sqlite")
    assert same(RunLog.read(tmp_path / "log.sqlite").steps(), [step_of(0)])
    assert same(log.steps(), [step_of(0)])


# ---------------------------------------------------------------- bounded size


def test_a_long_series_is_merged_exactly_and_stays_bounded():
    rng = random.Random(0)
    batches = [[rng.gauss(1000.0, 0.1) for _ in range(5)] for _ in range(1000)]
    log = RunLog.create(capacity=64)
    for step, batch in enumerate(batches):
        log.layer(layer_of(batch, step))
        log.step(step_of(step, loss=batch[0]))
    rows, steps = log.layers()["0.0"], log.steps()
    assert 32 <= len(rows) <= 64
    assert [row.records for row in rows[:-1]] == [16] * (len(rows) - 1)
    assert [row.first_step for row in rows] == [row.first_step for row in steps] == list(range(0, 1000, 16))
    whole, every = merge_all(rows), [value for batch in batches for value in batch]
    exact = math.fsum(every) / len(every)
    assert whole.count == whole.histogram.total == 5000
    assert (whole.first_step, whole.last_step, whole.records, whole.positive_samples) == (0, 999, 1000, 2000)
    assert whole.mean == pytest.approx(exact, rel=1e-14)
    assert whole.m2 == pytest.approx(math.fsum((value - exact) ** 2 for value in every), rel=1e-9)
    assert (whole.minimum, whole.maximum) == (min(every), max(every))
    assert whole.positive == b"\xff\x00"
    losses = [batch[0] for batch in batches]
    assert merge_all(steps).loss == Range(min(losses), pytest.approx(sum(losses) / 1000), max(losses), losses[-1], 1000)


def test_single_steps_are_kept_until_the_series_is_full():
    log = RunLog.create(capacity=10)
    for step in range(10):
        log.step(step_of(step))
    assert [record.first_step for record in log.steps()] == list(range(10))
    log.step(step_of(10))
    assert [(record.first_step, record.last_step) for record in log.steps()] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 10)]
    log.step(step_of(11))
    assert log.steps()[-1].last_step == 11


@given(flushes=st.sets(st.integers(0, 199)), capacity=st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_when_it_is_flushed_changes_nothing(flushes, capacity):
    often, once = RunLog.create(capacity=capacity), RunLog.create(capacity=capacity)
    for step in range(200):
        for log in (often, once):
            log.layer(layer_of([step, step + 1.0], step))
        if step in flushes:
            often.flush()
    kept = [(row.first_step, row.last_step, row.count, row.histogram) for row in often.layers()["0.0"]]
    assert kept == [(row.first_step, row.last_step, row.count, row.histogram) for row in once.layers()["0.0"]]
    assert len(kept) <= capacity


def test_observations_of_one_kind_are_thinned_after_the_first():
    log = RunLog.create()
    for step in range(3000):
        log.observe(Observation(step, "labels", "", {"count": step}))
        if step % 100 == 0:
            log.flush()
    kept = [observation.step for observation in log.observations()]
    assert len(kept) <= KEPT_OBSERVATIONS
    assert kept[:KEPT_FIRST] == list(range(KEPT_FIRST))
    assert kept[-1] >= 2990


def test_merged_keeps_short_lists_and_bounds_long_ones():
    records = [layer_of([1.0, step], step) for step in range(10)]
    assert merged(records, 10) is records
    assert [(row.first_step, row.last_step) for row in merged(records, 4)] == [(0, 2), (3, 5), (6, 8), (9, 9)]


# ---------------------------------------------------------------- resuming


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path):
    def write(log, first, last):
        for step in range(first, last):
            log.step(step_of(step, loss=1 / (1 + step)))
            log.layer(layer_of([step, 2.0 * step], step))
            log.observe(Observation(step, "modes", "", {"training": True}))

    with RunLog.create(tmp_path / "whole.sqlite", capacity=20) as whole:
        write(whole, 0, 150)
        steps, layers, observations = whole.steps(), whole.layers(), whole.observations()
    with RunLog.create(tmp_path / "cut.sqlite", capacity=20) as cut:
        write(cut, 0, 97)  # killed after 97 steps, the checkpoint is at 90, inside of a row
    with RunLog.append_to(tmp_path / "cut.sqlite", capacity=20) as cut:
        cut.drop_after(90)
        assert cut.steps()[-1].first_step < 90 <= cut.steps()[-1].last_step
        write(cut, 90, 150)
        assert_close(to_json(cut.steps()), to_json(steps))
        assert_close(to_json(cut.layers()), to_json(layers))
        assert cut.observations() == observations


def test_what_came_after_the_checkpoint_is_forgotten():
    log = RunLog.create()
    for step in range(10):
        log.step(step_of(step))
        log.layer(layer_of([1.0, 2.0], step))
        log.observe(Observation(step + 1, "validated", "", {}))
    log.epoch(EpochRecord(1, 5, 0.5, 0.5, {}, 1.0))
    log.epoch(EpochRecord(2, 10, 0.5, 0.5, {}, 1.0))
    log.finding(finding_of(step=5))
    log.finding(finding_of("lr_too_high", step=6))
    log.drop_after(5)
    assert [record.last_step for record in log.steps()] == [0, 1, 2, 3, 4]
    assert [record.last_step for record in log.layers()["0.0"]] == [0, 1, 2, 3, 4]
    assert [record.step for record in log.observations()] == [1, 2, 3, 4, 5]
    assert [record.epoch for record in log.epochs()] == [1]
    assert [record.name for record in log.findings()] == ["dead_units"]


# ---------------------------------------------------------------- what can go wrong


def test_a_missing_log_says_where_logs_are(tmp_path):
    with pytest.raises(RunError) as error:
        RunLog.read(tmp_path / "log.sqlite")
    assert (
        str(error.value)
        == f"There is no log {tmp_path / 'log.sqlite'}. A log is the file log.sqlite in what `convscope train` or `watch` wrote."
    )


@pytest.mark.parametrize("open_log", [RunLog.read, RunLog.append_to])
def test_a_damaged_log_says_so(tmp_path, open_log):
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"no database at all, but long enough to be read as a header" * 20)
    with pytest.raises(RunError) as error:
        open_log(path)
    assert str(error.value) == (
        f"The log {path} is damaged (file is not a database). "
        "Restore log.sqlite from a copy, or delete it to go on without the run's history."
    )


def test_a_log_damaged_in_the_middle_says_so(tmp_path):
    path = tmp_path / "log.sqlite"
    with RunLog.create(path) as log:
        for step in range(500):
            log.layer(layer_of([1.0, 2.0], step))
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(bytes(content))
    log = RunLog.read(path)
    with pytest.raises(RunError, match="is damaged"):
        log.layers()


def test_another_database_is_not_taken_for_a_log(tmp_path):
    sqlite3.connect(tmp_path / "log.sqlite").execute("CREATE TABLE photos (name)").connection.close()
    with pytest.raises(RunError) as error:
        RunLog.read(tmp_path / "log.sqlite")
    assert (
        str(error.value)
        == f"{tmp_path / 'log.sqlite'} is not a convscope log: it has the tables ['photos']. Give the folder of a run, with its log.sqlite."
    )


def test_a_newer_log_says_update(tmp_path):
    with RunLog.create(tmp_path / "log.sqlite"):
        pass
    connection = sqlite3.connect(tmp_path / "log.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(RunError) as error:
        RunLog.read(tmp_path / "log.sqlite")
    assert str(error.value) == (
        f"The log {tmp_path / 'log.sqlite'} was written by a newer convscope (log version 2; this one reads 1). Update convscope."
    )


def test_a_folder_that_does_not_exist_is_an_error_at_once(tmp_path):
    with pytest.raises(RunError) as error:
        RunLog.create(tmp_path / "absent" / "log.sqlite")
    assert str(error.value) == (
        f"The log {tmp_path / 'absent' / 'log.sqlite'} cannot be opened (unable to open database file). "
        "Check the permissions of the file and of its folder."
    )


def test_a_full_disk_is_told_once_and_does_not_end_the_run(tmp_path, recwarn):
    log = RunLog.create(tmp_path / "log.sqlite")
    log.step(step_of(0))
    log.flush()
    pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
    log._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then answers as on a full disk
    for step in range(1, 300):
        log.step(step_of(step))
    with pytest.warns(RuntimeWarning, match=r"database or disk is full.*The run goes on, but its log has a gap\."):
        log.flush()
    for step in range(300, 600):
        log.step(step_of(step))
    log.flush()
    assert not recwarn.list
    log._connection.execute("PRAGMA max_page_count = 1000000")  # space again
    log.step(step_of(600))
    assert [record.first_step for record in log.steps()] == [0, 600]
    log.close()
    assert len(RunLog.read(tmp_path / "log.sqlite").steps()) == 2


def test_network_file_systems_are_told_apart(tmp_path):
    mounts = "/dev/sda1 / ext4 rw 0 0\nserver:/home /net/home nfs4 rw 0 0\n//server/share /mnt/a\\040b cifs rw 0 0\nbroken\n"
    assert logfile.on_network(tmp_path.__class__("/net/home/me/log.sqlite"), mounts)
    assert logfile.on_network(tmp_path.__class__("/mnt/a b/log.sqlite"), mounts)
    assert not logfile.on_network(tmp_path.__class__("/net/homes/log.sqlite"), mounts)
    assert not logfile.on_network(tmp_path.__class__("/data/log.sqlite"), mounts)


def test_on_a_network_file_system_it_stays_in_rollback_mode(tmp_path, monkeypatch):
    monkeypatch.setattr(logfile, "on_network", lambda path: True)
    with RunLog.create(tmp_path / "log.sqlite") as log:
        log.step(step_of(0))
        log.flush()
        assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert len(RunLog.read(tmp_path / "log.sqlite").steps()) == 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_threads_may_read_and_write_at_once(tmp_path, in_memory):
    log = RunLog.create(None if in_memory else tmp_path / "log.sqlite", capacity=40)
    log.layer(layer_of([1.0], 0))
    log.step(step_of(0))
    log.flush()
    ended, troubles, reads = threading.Event(), [], 0

    def read(source):
        nonlocal reads
        try:
            while not ended.is_set():
                counted, steps = sum(record.count for record in source.layers()["0.0"]), source.steps()
                assert 1 <= counted <= 400
                assert sum(record.loss.count for record in steps) == steps[-1].last_step + 1  # all of one moment
                reads += 1
        except BaseException as error:
            troubles.append(error)

    sources = [log, log, *([] if in_memory else [RunLog.read(tmp_path / "log.sqlite")])]
    readers = [threading.Thread(target=read, args=(source,)) for source in sources]
    for reader in readers:
        reader.start()
    for number in range(1, 400):  # merged ten times meanwhile
        log.layer(layer_of([float(number)] if number % 7 else [float("nan")], number))
        log.step(step_of(number))
        if number % 3 == 0:
            log.flush()
    ended.set()
    for reader in readers:
        reader.join()
    assert not troubles
    assert reads > 5
    assert sum(record.count for record in log.layers()["0.0"]) == len(range(400))
    assert sum(record.loss.count for record in log.steps()) == 400
