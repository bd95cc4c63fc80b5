"""Programs that no rule was fitted to, run as their authors would and watched from outside.

Each script in tests/support/unseen says in its first line what was planted in it, or that it is healthy and what makes it look ill. They differ from the
development benchmark in data (tables, sequences), loop styles and losses; most were once missed, misnamed or flagged in error.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "support" / "unseen"
WATCH = "import sys; from convscope.watch.bootstrap import run_watched; sys.exit(run_watched([sys.argv[1]], out='runs', json_file='verdict.json'))"
PLANTED = {
    "amounts_by_heart": {"overfitting"},
    "average_left_in": {"update_no_op"},
    "average_written_back": {"update_no_op"},
    "copied_and_left": {"update_no_op", "params_not_in_optimizer"},
    "copies_on_both_sides": {"data_order_or_leak"},
    "distilled_along_the_batch": {"softmax_wrong_dim"},
    "dropout_as_a_function": {"wrong_mode"},
    "dropout_on_known_nodes": {"wrong_mode"},
    "frequent_class_counts_more": {"one_class"},
    "group_without_a_rate": {"update_no_op"},
    "layers_in_a_list": {"params_not_in_optimizer"},
    "log_of_zero": {"non_finite"},
    "one_of_two_never_cleared": {"grads_not_cleared"},
    "optimiser_of_an_older_network": {"params_not_in_optimizer"},
    "reports_in_training_mode": {"wrong_mode"},
    "sigmoid_twice": {"loss_output_mismatch"},
    "targets_of_the_next_row": {"labels_look_random"},
    "unfrozen_in_vain": {"mostly_frozen"},
    "written_out_and_shuffled": {"labels_look_random"},
}
HEALTHY = sorted(path.stem for path in SCRIPTS.glob("healthy_*.py"))


def serious_findings(folder, script):
    """The findings of at least a warning, in the order in which they are told."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(SCRIPTS / f"{script}.py")], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["steps"] >= 100
    return [finding for finding in verdict["findings"] if finding["severity"] != "note"]


@pytest.mark.parametrize("script", PLANTED)
def test_what_was_planted_is_named_first(tmp_path, script):
    findings = serious_findings(tmp_path, script)
    assert findings, "nothing was found"
    assert findings[0]["name"] in PLANTED[script], [finding["message"] for finding in findings]


@pytest.mark.parametrize("script", HEALTHY)
def test_a_healthy_program_is_left_in_peace(tmp_path, script):
    assert [finding["message"] for finding in serious_findings(tmp_path, script)] == []


def test_every_script_is_run():
    assert sorted(path.stem for path in SCRIPTS.glob("*.py")) == sorted([*PLANTED, *HEALTHY])
    assert len(HEALTHY) >= 2
