"""Questions: SQuAD's files, cloze questions made of a text, their words as numbers, and how answers are scored."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.answers import best_spans, exact_match, f1, scores
from models.data.lexicon import LETTERS, Lexicon, around_blank, read_vectors
from models.data.questions import ARTICLES, BLANK, LONGEST, cloze, load_questions, split

WORDS = st.sampled_from(["god", "the", "a", "an", "sea", "<unk>", ".", ",", "rivers", "ark", "of", "aaron's"])


# How answers are scored


@pytest.mark.parametrize(
    "answer, right, exact, share",
    [
        ("the ark", ["Ark"], 1, 1),  # no article, no case
        ("Noah's ark!", ["noahs  ark"], 1, 1),  # no punctuation, one space
        ("an apple", ["theapple"], 0, 0),  # an article is a whole word
        ("red sea", ["red"], 0, 2 / 3),  # half is right, all is found
        ("red", ["the red dead sea"], 0, 1 / 2),  # all is right, a third is found
        ("sea sea sea", ["sea"], 0, 1 / 2),  # a word counts as often as it is right
        ("dead sea", ["river", "sea", "dead sea scrolls"], 0, 4 / 5),  # the best of them
        ("river", ["sea"], 0, 0),
        ("the", ["a"], 1, 1),  # nothing is left of either
        ("the", ["sea"], 0, 0),
    ],
)
def test_answers_by_hand(answer, right, exact, share):
    assert exact_match(answer, right) == exact
    assert f1(answer, right) == pytest.approx(share)


def test_scores_are_means_in_percent():
    right = [["ark"], ["sea"], ["red sea"], ["god"]]
    assert scores(["the ark", "river", "red", "god"], right) == pytest.approx((50, 100 * (1 + 0 + 2 / 3 + 1) / 4))


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_the_best_span_has_the_largest_sum_of_all(words, seed):
    logits = np.random.default_rng(seed).normal(size=(3, 2, words))
    sums = [{(i, j): row[0, i] + row[1, j] for i in range(words) for j in range(i, words)} for row in logits]
    assert [tuple(span) for span in best_spans(logits).tolist()] == [max(found, key=found.get) for found in sums]


# Cloze


@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=14), min_size=1, max_size=9), st.integers(12, 30), st.integers(0, 9)
)
def test_a_cloze_question_with_its_answer_in_place_is_a_sentence_of_its_context(lines, longest, seed):
    questions = cloze(lines, longest, seed)
    for question in questions:
        (first, last), words = question.span, question.context.words
        answer = words[first : last + 1]
        (at,) = (place for place, word in enumerate(question.words) if word == BLANK)
        sentence = [*question.words[:at], *answer, *question.words[at + 1 :]]
        assert words[first - at : first - at + len(sentence)] == sentence and sentence in lines
        assert question.answers == (" ".join(answer),) == (question.context.between(first, last),)
        assert 1 <= len(answer) <= LONGEST and not {"<unk>", ".", ","} & set(answer)
        assert answer[0] not in ARTICLES and answer[-1] not in ARTICLES
        assert len(words) <= longest
    assert questions == cloze(lines, longest, seed)


def test_each_long_sentence_gives_a_question():
    lines = [f"word{i} two three four five six seven eight".split() for i in range(7)]
    questions = cloze(lines, longest=20, seed=0)
    assert len(questions) == 7
    assert [len(question.context.words) for question in questions] == [16] * 6 + [8]
    assert cloze([lines[0][:7]], longest=20, seed=0) == []  # it is short
    assert cloze([lines[0]], longest=7, seed=0) == []  # longer than a context


def test_the_layout_of_the_penn_treebank(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"text.{part}.txt").write_text(f" {part} was the word of the lord unto moses \n" * 3)
    parts = load_questions(tmp_path, longest=20)
    assert {part: len(questions) for part, questions in parts.items()} == {"train": 3, "valid": 3, "test": 3}
    assert parts["test"][0].context.words[0] == "test"


# SQuAD


def article(text, *questions):
    asked = [
        {"question": question, "answers": [{"text": answer, "answer_start": text.index(answer)} for answer in answers]}
        for question, *answers in questions
    ]
    return {"paragraphs": [{"context": text, "qas": asked}]}


def squad(folder, **parts):
    for name, articles in parts.items():
        (folder / f"{name}-v1.1.json").write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")


def test_squads_layout(tmp_path):
    text = "The Rhine-Main region (5,800,000 people) is old."
    one = article(
        text, ["How many live there?", "5,800,000", "5,800,000 people"], ["What is old?", "Main region"], ["Who?"]
    )
    squad(tmp_path, train=[one] * 40, dev=[one])
    parts = load_questions(tmp_path, longest=3)
    assert {part: len(questions) for part, questions in parts.items()} == {"train": 76, "valid": 4, "test": 2}
    people, old = parts["test"]
    assert people.words == ("How", "many", "live", "there", "?")
    assert people.answers == ("5,800,000", "5,800,000 people")
    assert people.context is old.context
    for question in (people, old):
        assert question.context.between(*question.span) == question.answers[0]
    assert people.context.words[people.span[0] : people.span[1] + 1] == ["5", ",", "800", ",", "000"]


def test_an_answer_that_is_part_of_a_word_is_the_word(tmp_path):
    squad(tmp_path, train=[article("He was unhappy.", ["?", "happy"])], dev=[article("x", ["?", "x"])])
    (question,) = load_questions(tmp_path, longest=3)["train"]
    assert question.context.between(*question.span) == "unhappy"


def test_what_is_no_squad_is_refused(tmp_path):
    squad(tmp_path, train=[article("x", ["?", "x"])])
    with pytest.raises(ValueError, match=r"'dev' in its name, as dev-v1\.1\.json\. Received: \[\]"):
        load_questions(tmp_path, longest=3)
    (tmp_path / "dev.json").write_text("[]")
    with pytest.raises(ValueError, match="not in the layout of SQuAD"):
        load_questions(tmp_path, longest=3)
    wrong = article("x", ["?", "x"])
    wrong["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 7
    squad(tmp_path, train=[wrong])
    (tmp_path / "dev.json").write_text(json.dumps({"data": [wrong]}))
    with pytest.raises(ValueError, match="inside of its context"):
        load_questions(tmp_path, longest=3)


@given(st.text(max_size=30))
def test_a_text_split_in_words_leaves_out_spaces_alone(text):
    assert "".join(split(text).words) == "".join(text.split())


# Numbers


def questions_of(*lines):
    return {part: cloze([line.split() for line in lines], 40, 0) for part in ("train", "valid", "test")}


TEN = "And god saw the light that it was good and it was"


def test_rare_words_and_characters_are_unknown():
    lexicon = Lexicon.of(questions_of(TEN, TEN, "x y z god saw the light that it was"), rare=3, rare_letters=8)
    number = lexicon.forms
    assert lexicon.words[0] == 0 and not lexicon.letters[0].any()
    assert lexicon.words[number["x"]] == lexicon.letters[number["x"]][0] == 1
    assert lexicon.words[number["And"]] == lexicon.words[number["and"]] > 1  # in small letters
    assert lexicon.letters[number["And"]][0] == 1 < lexicon.letters[number["and"]][0]  # as written
    assert lexicon.vocabulary == lexicon.words.max() + 1 and lexicon.characters == lexicon.letters.max() + 1


def test_a_small_vocabulary_has_the_most_frequent_words():
    lexicon = Lexicon.of(questions_of(TEN, TEN), rare=1, vocabulary=4)
    known = {form for form, number in lexicon.forms.items() if lexicon.words[number] > 1}
    assert lexicon.vocabulary == 4 and "it" in known and "good" not in known


def test_numbers_of_questions():
    parts = questions_of(TEN, "all the kings of the earth shall praise thee o lord")
    lexicon = Lexicon.of(parts, rare=1, rare_letters=1)
    encoded = lexicon.encode(parts["train"], context=15, question=6)
    names = {number: form for form, number in lexicon.forms.items()} | {0: ""}
    for row, asked, span, question in zip(
        encoded.contexts, encoded.questions, encoded.spans, encoded.source, strict=True
    ):
        assert [names[number] for number in row] == question.context.words[:15]
        assert BLANK in [names[number] for number in asked]
        assert span.tolist() == np.minimum(question.span, 14).tolist()
    fitting = lexicon.encode(parts["train"], context=15, question=6, fits=True)
    assert [question.span[1] < 15 for question in encoded.source].count(True) == len(fitting.source) == 1
    words, letters, asked, spelled = lexicon.inputs(encoded.contexts, encoded.questions)
    assert words.shape == (2, 15) and letters.shape == (2, 15, LETTERS)
    assert asked.shape == (2, 6) and spelled.shape == (2, 6, LETTERS)
    assert (words.numpy() == lexicon.words[encoded.contexts]).all()


@given(st.integers(1, 9), st.data())
def test_a_long_question_keeps_its_blank(longest, data):
    count = data.draw(st.integers(1, 12))
    words = [f"w{i}" for i in range(count)]
    words[data.draw(st.integers(0, count - 1))] = BLANK
    kept = around_blank(words, longest)
    assert len(kept) == min(longest, count) and BLANK in kept
    assert " ".join(kept) in " ".join(words)


def test_trained_vectors(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\nnothing 9 9 9\ngod 4 5 6\n")
    lexicon = Lexicon.of(questions_of(TEN, TEN), vectors=path)
    of = {form: lexicon.vectors[lexicon.words[number]].tolist() for form, number in lexicon.forms.items()}
    assert of["the"] == [1, 2, 3] and of["god"] == [4, 5, 6] and of["it"] == [0, 0, 0]
    assert lexicon.vectors.shape == (4, 3) and lexicon.vocabulary == 4
    for wrong, complaint in {
        "the 1 x": "line 1: expected a word and numbers",
        "god 1 2\nthe 1": "line 2: expected 2",
    }.items():
        path.write_text(wrong)
        with pytest.raises(ValueError, match=complaint):
            read_vectors(path, {"the", "god"})
    with pytest.raises(ValueError, match="a vector for one of 1 words"):
        read_vectors(path, {"sea"})
