"""The soak notices what went wrong in a round; its rounds themselves take minutes, and are no test."""

import json
import random

import numpy as np
import pytest
import tool_modules

from tf_terngrad.ternary.distributed import saved

FINE = {"began": 0, "ended": 12, "weights": [1, 2], "finite": True, "error": None}


def content(updates, weight=1.0):
    values = [np.array([weight], np.float32), np.array(updates, np.int64)]
    return saved.Saved(0, updates, 12, [], values, [], [])


@pytest.fixture
def wrong(tmp_path):
    """What is said of a round of two workers; arguments change what is fine."""
    soak = tool_modules.load("soak")

    def said(mishap="none", before=None, after=None, now=12, ended=True, **of_second):
        if before is not None:
            saved.write(before, tmp_path / "training.npz")
        each = soak.Round(tmp_path, 2, mishap, random.Random(0))
        saved.write(after or content(12), tmp_path / "training.npz")
        (tmp_path / "now-0").write_text(str(now))
        for rank, result in enumerate([FINE, FINE | of_second]):
            (tmp_path / f"result-{rank}.json").write_text(json.dumps(result))
        return each._wrong(ended)

    return said


def test_a_round_as_it_must_be(wrong):
    assert wrong() == []


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ({"ended": False}, "not all have ended after"),
        ({"weights": [1, 3]}, "the replicas differ"),
        ({"error": "ValueError: no"}, "an error: ValueError: no"),
        ({"mishap": "error", "error": "OSError: a mishap"}, "not all have heard of the error"),
        ({"began": 5}, r"they began at update \[0, 5\], the checkpoint was at 0"),
        ({"now": 30}, "18 updates are lost"),
        ({"before": content(24), "began": 24}, "the checkpoint went back from update 24 to 12"),
        ({"after": content(12, np.nan)}, "values that are not finite"),
    ],
)
def test_what_does_not_hold_is_said(wrong, case, sentence):
    with pytest.raises(AssertionError, match=sentence):
        assert not wrong(**case)
