"""The commands that train the rows of a table take the names of rows, and refuse others."""

import types

import pytest
from tool_modules import load

from tools.chosen_rows import chosen


def test_rows_are_chosen_by_name_in_their_own_order():
    rows = [types.SimpleNamespace(name=name) for name in ("dense", "sparse", "scratch")]
    assert chosen(rows, [], "train") == rows
    assert chosen(rows, ["scratch", "dense"], "train") == [rows[0], rows[2]]
    with pytest.raises(SystemExit, match=r"train: expected some of dense, sparse, scratch\. Received: spars, den"):
        chosen(rows, ["spars", "dense", "den"], "train")


@pytest.mark.parametrize("table", ["attention", "language", "reading", "terngrad"])
def test_a_command_refuses_a_row_that_it_lacks_though_it_has_another(table):
    tool = load(f"reproduce_{table}")
    known = {"attention": "dense", "language": "lstm-dense", "reading": "dense", "terngrad": "lenet-sgd-1-float"}[table]
    with pytest.raises(SystemExit, match=rf"reproduce_{table}: expected some of .*\. Received: nothing$"):
        tool.app.run(tool.main, [f"reproduce_{table}", f"--rows={known},nothing"])
