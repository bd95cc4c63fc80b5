"""Several processes and one log: what ranks send, what rank 0 makes of it, and that nobody waits for ever."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from torch.distributed import HashStore

from convscope.columns import LayerColumns, merged_ranks
from convscope.records import LayerStats, Range, StepRecord
from convscope.runlog import RunLog
from convscope.watch import ranks
from convscope.watch.ranks import Mailbox, Part, Receiver, Sender

SCRIPTS = Path(__file__).with_name("scripts")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def layer(step, mean, count=4, name="2.0"):
    return LayerColumns.of([LayerStats(name, step, step, count, mean, 2.0, mean - 1, mean + 1, update_ratio=1e-3, parameter_records=1)])


def did(step, loss):
    return StepRecord(step, step, math.nan, Range.of(loss), {"lr": Range.of(0.1)}, Range.of(3.0), Range.of(0.5))


class Meeting:
    """Rank 0 with its log, and other ranks, in one process."""

    def __init__(self, world=2, store=None):
        self.store, self.told, self.log = store or HashStore(), [], RunLog.create()
        self.main = Receiver(self.log, Mailbox(self.store, "here"), world, self.told.append)
        self.others = [Sender(RunLog.create(), Mailbox(self.store, "here"), rank, self.told.append) for rank in range(1, world)]

    def send(self, sink, step, mean=1.0, loss=1.0):
        sink.write([layer(step, mean)], [did(step, loss)], step + 1)

    def merged(self):
        return [(record.first_step, record.count, record.mean) for record in self.log.layers().get("2.0", [])]


def test_what_is_sent_comes_back_the_same():
    part = Part(7, True, (layer(5, 1.5), layer(6, math.nan, name="1.1")), (did(5, math.nan), did(6, 0.25)))
    back = Part.from_bytes(part.to_bytes())
    assert (back.complete, back.ended) == (7, True)
    assert [repr(columns.records()) for columns in back.columns] == [repr(columns.records()) for columns in part.columns]
    assert repr(back.steps) == repr(part.steps)


def test_records_of_ranks_merge_step_by_step_and_count_as_one():
    parts = [LayerColumns.of([*layer(0, 1.0).records(), *layer(2, 3.0).records()]), LayerColumns.of(layer(2, 5.0).records())]
    first, second = merged_ranks(parts).records()
    assert (first.first_step, first.count, first.mean, first.records) == (0, 4, 1.0, 1)
    assert (second.first_step, second.last_step, second.count, second.mean, second.records) == (2, 2, 8, 4.0, 1)
    assert (second.update_ratio, second.parameter_records, second.minimum, second.maximum) == (1e-3, 1, 2.0, 6.0)
    assert second.m2 == 2.0 + 2.0 + 8 * 1.0  # within, and the distances of four and four elements from the common mean


def test_a_step_is_written_when_all_ranks_have_sent_it():
    meet = Meeting()
    meet.send(meet.main, 0, mean=1.0, loss=1.0)
    assert meet.merged() == []
    meet.send(meet.others[0], 0, mean=3.0, loss=2.0)
    meet.send(meet.others[0], 1, mean=7.0)
    meet.send(meet.main, 1, mean=5.0)
    assert meet.merged() == [(0, 8, 2.0), (1, 8, 6.0)]
    assert [(step.loss.last, step.gradient_norm.last, step.seconds.last) for step in meet.log.steps()] == [(1.5, 3.0, 0.5), (1.0, 3.0, 0.5)]
    assert not meet.told


def test_a_rank_that_ends_early_is_not_waited_for():
    meet = Meeting(world=3)
    for sink in (*meet.others, meet.main):
        meet.send(sink, 0)
    meet.others[0].close()
    for sink in (meet.others[1], meet.main):
        meet.send(sink, 1)
    assert [count for _, count, _ in meet.merged()] == [12, 8]
    meet.others[1].close()
    meet.main.close()
    assert not meet.told


def test_a_rank_that_never_ends_is_waited_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(ranks, "END_SECONDS", 0.1)
    meet = Meeting()
    meet.send(meet.others[0], 0)
    for step in range(3):
        meet.send(meet.main, step)
    begun = time.monotonic()
    meet.main.close()
    assert 0.1 <= time.monotonic() - begun < 2
    assert [count for _, count, _ in meet.merged()] == [8, 4, 4]
    assert meet.told == ["Rank 1 did not end within 0 s: from step 1 on the statistics are without it."]


def test_a_rank_that_falls_silent_is_left_out_before_much_waits(monkeypatch):
    monkeypatch.setattr(ranks, "MOST_PARTS", 4)
    meet = Meeting()
    for step in range(9):
        meet.send(meet.main, step)
    assert len(meet.merged()) == 9
    assert meet.told == ["Rank 1 sends nothing any more: from step 0 on the statistics are without it."]
    meet.send(meet.others[0], 0)
    meet.main.close()
    assert len(meet.merged()) == 9


def test_a_rank_stops_sending_to_nobody(monkeypatch):
    monkeypatch.setattr(ranks, "MOST_PARTS", 4)
    meet = Meeting()
    for step in range(9):
        meet.send(meet.others[0], step)
    assert meet.told == ["Records of rank 1 up to step 5 are not in rank 0's log, which takes none any more."]
    assert len(meet.others[0]._own._log.steps()) == 9


def test_rank_0_waits_for_nobody_when_it_watches_alone():
    told, log = [], RunLog.create()
    main = Receiver(log, Mailbox(HashStore(), "here"), 2, told.append)
    begun = time.monotonic()
    main.write([layer(0, 1.0)], [did(0, 1.0)], 1)
    assert len(log.steps()) == 1
    main.close()
    assert time.monotonic() - begun < 1
    assert not told


def test_records_sent_before_rank_0_looks_are_not_lost():
    store, log = HashStore(), RunLog.create()
    early = Sender(RunLog.create(), Mailbox(store, "here"), 1, lambda _: None)
    early.write([layer(0, 3.0)], [did(0, 1.0)], 1)
    main = Receiver(log, Mailbox(store, "here"), 2, lambda _: None)
    main.write([layer(0, 1.0)], [did(0, 1.0)], 1)
    assert [(record.count, record.mean) for record in log.layers()["2.0"]] == [(8, 2.0)]


class BrokenStore:
    def __init__(self):
        self.works = True
        self.inner = HashStore()

    def __getattr__(self, name):
        if not self.works:
            raise RuntimeError("Broken pipe")
        return getattr(self.inner, name)


def test_a_store_that_breaks_loses_no_record_of_one_s_own():
    meet = Meeting(store=BrokenStore())
    for sink in (meet.others[0], meet.main):
        meet.send(sink, 0)
    meet.store.works = False
    for sink in (meet.others[0], meet.main):
        meet.send(sink, 1)
        sink.close()
    assert [count for _, count, _ in meet.merged()] == [8, 4]
    assert len(meet.others[0]._own._log.steps()) == 2
    assert meet.told == [
        "Records of rank 1 up to step 2 are not in rank 0's log, which cannot be reached (Broken pipe).",
        "Rank 1 cannot be heard (Broken pipe): from step 1 on the statistics are without it.",
    ]


def test_many_steps_of_two_ranks_with_different_portions_equal_their_sum():
    meet, rng = Meeting(), numpy.random.default_rng(0)
    means = rng.normal(size=(2, 60))
    cuts = [0, 7, 8, 30, 60], [0, 20, 21, 44, 60]
    for turn in range(1, 5):
        for rank, sink in ((1, meet.others[0]), (0, meet.main)):
            steps = range(cuts[rank][turn - 1], cuts[rank][turn])
            columns = LayerColumns.of([layer(step, means[rank, step]).records()[0] for step in steps])
            sink.write([columns], [did(step, means[rank, step]) for step in steps], steps[-1] + 1)
    meet.others[0].close()
    meet.main.close()
    assert [(step, count) for step, count, _ in meet.merged()] == [(step, 8) for step in range(60)]
    assert [mean for _, _, mean in meet.merged()] == pytest.approx(means.mean(0).tolist())
    assert [record.loss.last for record in meet.log.steps()] == pytest.approx(means.mean(0).tolist())


# ---------------------------------------------------------------- real processes


def run(tmp_path, name, *command):
    """Run a command in a folder of its own; its stdout, stderr and the one log that it wrote."""
    folder = tmp_path / name
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done, [RunLog.read(path) for path in sorted(folder.rglob("log.sqlite"))]


def test_two_processes_equal_one_on_the_same_global_batch(tmp_path):
    script, watch = str(SCRIPTS / "distributed_script.py"), ["-m", "convscope", "watch", "--"]
    alone, (one,) = run(tmp_path, "alone", *watch, sys.executable, script)
    outside, (two,) = run(tmp_path, "outside", *watch, sys.executable, *TORCHRUN, script)
    inside, (three,) = run(tmp_path, "inside", *TORCHRUN, *watch, sys.executable, script)
    assert alone.stdout == outside.stdout == inside.stdout == "trained\n"
    for told in (outside.stderr, inside.stderr):
        assert told.count("convscope: The page: ") == 1
        assert "convscope: Watched 2 steps" in told
        assert "No training was seen" not in told
    for together in (two, three):
        assert together.layer_names() == one.layer_names() == ["0", "1", "2"]
        for name, expected in one.layers().items():
            for record, reference in zip(together.layers()[name], expected, strict=True):
                assert record.sample_count == record.count == reference.count > 0
                for field in ("first_step", "last_step", "histogram", "minimum", "maximum", "nan_count", "inf_count", "zero_count"):
                    assert getattr(record, field) == getattr(reference, field), field
                for field in ("near_zero_count", "positive", "positive_samples", "channels", "records", "parameter_records"):
                    assert getattr(record, field) == getattr(reference, field), field
                assert record.mean == pytest.approx(reference.mean, abs=1e-6 * reference.std)  # sums of all elements, in float32
                assert record.m2 == pytest.approx(reference.m2, rel=1e-6)
                for field in ("gradient_rms", "update_ratio", "weight_rms"):
                    assert getattr(record, field) == pytest.approx(getattr(reference, field), rel=1e-6, nan_ok=True), field
        for record, reference in zip(together.steps(), one.steps(), strict=True):
            assert record.loss.last == pytest.approx(reference.loss.last, rel=1e-6)
            assert record.gradient_norm.last == pytest.approx(reference.gradient_norm.last, rel=1e-6)
            assert record.hyper == reference.hyper


def test_a_rank_that_fails_holds_nobody_up(tmp_path):
    done, logs = run(tmp_path, "uneven", *TORCHRUN, str(SCRIPTS / "uneven_script.py"), "run")
    saw = json.loads(done.stdout)
    assert saw["counts"] == [[step, 16 * 2 if step < 5 else 16, 1] for step in range(9)]  # 8 rows of 2 outputs on each rank
    assert saw["closing_s"] < ranks.END_SECONDS + 5
    assert saw["notes"] == []
    assert len(logs) == 1  # rank 0 alone saves
