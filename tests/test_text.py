"""Texts: words, batches that carry on, and blocks from all over."""

import numpy as np
import pytest

from models.data.text import load_text


def write(folder, **parts):
    for part, content in parts.items():
        (folder / f"ptb.{part}.txt").write_text(content)


def test_the_penn_treebanks_layout(tmp_path):
    write(tmp_path, train=" a b a \n c a \n\n", valid=" a d \n", test=" b \n")
    text = load_text(tmp_path)
    assert text.words == ("a", "<eos>", "b", "c", "<unk>")
    assert text.train.tolist() == [0, 2, 0, 1, 3, 0, 1]  # the end of a sentence is a word; an empty line is none
    assert text.valid.tolist() == [0, 4, 1] and text.test.tolist() == [2, 1]
    assert text.train.dtype == np.int32


def test_rare_words_are_unknown_where_the_vocabulary_is_small(tmp_path):
    write(tmp_path, train="a a a b b c\n", valid="a c\n", test="b\n")
    text = load_text(tmp_path, vocabulary=3)
    assert text.words == ("<unk>", "a", "b")
    assert text.train.tolist() == [1, 1, 1, 2, 2, 0, 0]
    assert load_text(tmp_path, vocabulary=99).words == load_text(tmp_path).words


def test_without_a_folder_it_is_pythons_help():
    text = load_text(vocabulary=500)
    assert len(text.words) == 500
    assert len(text.train) > 80_000 and min(len(text.valid), len(text.test)) > 8_000
    assert {"class", "function", "the", "<unk>", "<eos>"} <= set(text.words)


def test_what_is_no_text_is_refused(tmp_path):
    write(tmp_path, train="a\n", valid="a\n")
    with pytest.raises(FileNotFoundError, match=r"ends in test\.txt"):
        load_text(tmp_path)
    write(tmp_path, test=" \n")
    with pytest.raises(ValueError, match="holds no words"):
        load_text(tmp_path)
    (tmp_path / "other.train.txt").write_text("b\n")
    with pytest.raises(ValueError, match=r"Received: \['other.train.txt', 'ptb.train.txt'\]"):
        load_text(tmp_path)
    with pytest.raises(ValueError, match="at least 2 words"):
        load_text(vocabulary=1)


def test_less_to_train_on(tmp_path):
    write(tmp_path, train="a b c d e f g\n" * 3, valid="a\n", test="b\n")
    text = load_text(tmp_path)
    assert text.thinned(1) is text
    thin = text.thinned(3, block=2)  # 24 words: 4 times 3 blocks
    assert thin.train.tolist() == [word for start in range(0, 24, 6) for word in text.train[start : start + 2]]
    assert thin.words == text.words and thin.valid is text.valid and thin.test is text.test
    assert text.thinned(5, block=2).train.size == 4  # what is left over behind the last five blocks is left out
    for wrong in ({"every": 0}, {"every": 13, "block": 2}, {"every": 2, "block": 0}):
        with pytest.raises(ValueError, match="24 words"):
            text.thinned(**wrong)
