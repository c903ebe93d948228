"""Language models: carried states, perplexity, and training that goes on."""

import keras
import numpy as np
import pytest
from laws import check_laws, check_widths, random_members, randomize, zero_members

import tf_terngrad as tt
from models.data.text import load_text
from models.lstm_lm import lstm_lm
from models.rhn import rhn
from models.training.language_trainer import LanguageTrainer, at_rest

MODELS = {
    "lstm": lambda **options: lstm_lm(40, (6, 9), **options),
    "gru": lambda **options: lstm_lm(40, (6, 9), layer=keras.layers.GRU, **options),
    "lstm, tied": lambda **options: lstm_lm(40, (6, 9), 9, tied=True, **options),
    "highway": lambda **options: rhn(40, 9, 3, tied=False, **options),
    "highway, tied": lambda **options: rhn(40, 9, 3, **options),
}


def loud(model):
    """With weights large enough for what is read to be heard."""
    for weight in randomize(model).trainable_variables:
        if "kernel" in weight.name or "embeddings" in weight.name:
            weight.assign(15 * weight)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_language_models_obey_the_laws(name):
    model = loud(MODELS[name](steps=5))
    check_widths(model, random_members(seed=1))
    check_laws(model)


def test_the_papers_sizes():
    assert lstm_lm().count_params() == 66_022_000
    assert rhn().count_params() == 23_472_400


@pytest.mark.parametrize("name", MODELS)
def test_no_two_matrices_begin_alike(name):
    kernels = [weight.numpy().ravel() for weight in MODELS[name]().trainable_variables if "bias" not in weight.name]
    begun = {tuple(kernel[:3]) for kernel in kernels}
    assert len(begun) == len(kernels) > 2


def test_narrower_networks_begin_with_larger_values():
    for model, limit in ((lstm_lm(40, (24, 6)), 0.04 * (1500 / 24) ** 0.5), (rhn(40, 30, 2), 0.04 * (830 / 30) ** 0.5)):
        for weight in model.trainable_variables:
            if "bias" not in weight.name:
                assert 0.9 * limit < np.abs(weight).max() <= limit


def test_a_tied_highway_network_has_one_structure():
    (found,) = tt.structures(rhn(40, 9, 3))
    assert (found.size, found.kind) == (9, "hidden")
    assert "embeddings" in str(found) and "recurrent_kernel2" in str(found)


def test_a_tied_embedding_is_as_wide_as_the_last_lstm():
    with pytest.raises(ValueError, match=r"Expected embedding=9\. Received: 6"):
        lstm_lm(40, (6, 9), tied=True)
    with pytest.raises(ValueError, match="Expected batch_size"):
        lstm_lm(40, (6, 9), stateful=True)


@pytest.mark.parametrize("name", MODELS)
def test_at_rest_a_model_gives_what_it_gives_from_the_beginning(name):
    model = loud(MODELS[name](batch_size=2, stateful=True))
    words = np.random.default_rng(0).integers(0, 40, (2, 7))
    first = model.predict(words, verbose=0)
    again = model.predict(words, verbose=0)
    assert np.abs(first - again).max() > 1e-3  # it has gone on
    twin = at_rest(model)
    np.testing.assert_allclose(twin.predict(words, verbose=0), first, atol=1e-6)
    assert twin.input_shape == (None, None)


def test_perplexity_is_that_of_the_words_one_after_the_other_and_the_same_after_compaction(tmp_path):
    text = load_text(vocabulary=30)
    text = type(text)(text.words, text.train[:400], text.valid[:201], text.test[:201])
    trainer = LanguageTrainer(tmp_path, text, batch_size=2, steps=10)
    model = loud(lstm_lm(30, (6, 9), batch_size=2, stateful=True))
    words = text.test[:200].reshape(2, 100)
    logits = at_rest(model).predict(words, verbose=0)
    targets = text.test[1:201].reshape(2, 100)
    losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    assert trainer.perplexity(model) == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    zero_members(model, random_members(seed=2))
    assert trainer.perplexity(tt.compact(model)) == pytest.approx(trainer.perplexity(model), rel=1e-4)


def test_training_lowers_the_perplexity_and_goes_on_where_it_stopped(tmp_path):
    text = load_text(vocabulary=200)
    text = type(text)(text.words, text.train[:4001], text.valid[:801], text.test[:801])

    def trained(folder, *epochs):
        keras.utils.set_random_seed(0)
        for count in epochs:
            model = lstm_lm(200, (8,), dropout=0.1, batch_size=4, stateful=True)
            trainer = LanguageTrainer(folder, text, batch_size=4, steps=10)
            curves = trainer.fit(model, "model", count, 0.5)
        return model, curves

    whole, curves = trained(tmp_path / "whole", 3)
    assert curves["perplexity"][0] > curves["perplexity"][-1]
    assert curves["val_perplexity"][-1] == pytest.approx(
        LanguageTrainer(tmp_path, text, 4, 10).perplexity(whole, "valid")
    )


def test_a_student_learns_the_words_and_its_teachers_answers_in_halves(tmp_path):
    text = load_text(vocabulary=30)
    text = type(text)(text.words, *[text.train[:201]] * 3)
    trainer = LanguageTrainer(tmp_path, text, batch_size=2, steps=10)
    teacher, student = (loud(lstm_lm(30, (units,), batch_size=2, stateful=True)) for units in (6, 4))
    curves = trainer.fit(student, "student", 2, (0.0, 0.0), teacher=teacher)
    words, targets = (text.train[start : start + 200].reshape(2, 100) for start in (0, 1))
    logits = (at_rest(model).predict(words, verbose=0) for model in (teacher, student))
    taught, own = (keras.ops.convert_to_numpy(keras.ops.log_softmax(each)) for each in logits)
    divergence = np.sum(np.exp(taught) * (taught - own), axis=-1)
    entropy = -np.take_along_axis(own, targets[..., None], axis=-1)[..., 0]
    assert "perplexity" not in curves  # the loss is no longer that of the words alone
    # Nothing is learned at a rate of zero; the teacher too has its states carried on, and begins each epoch anew.
    assert curves["loss"] == pytest.approx([10 * np.mean(entropy + divergence) / 2] * 2, rel=1e-5)
    assert curves["val_perplexity"] == pytest.approx([trainer.perplexity(student, "valid")] * 2, rel=1e-5)


def test_each_epoch_has_its_learning_rate(tmp_path):
    text = load_text(vocabulary=30)
    text = type(text)(text.words, *[text.train[:101]] * 3)
    trainer = LanguageTrainer(tmp_path, text, batch_size=2, steps=10)

    def steps(rates):
        model = lstm_lm(30, (6,), batch_size=2, stateful=True)
        trainer.fit(model, f"of {rates}", 3, rates)
        rate = keras.optimizers.schedules.deserialize(model.optimizer.get_config()["learning_rate"])
        return [float(rate(step)) for step in range(15)]

    assert steps((3.0, 2.0, 1.0)) == pytest.approx([3] * 6 + [2] * 5 + [1] * 4)
    assert steps(1.0) == pytest.approx([1] * 6 + [0.1] * 5 + [0.01] * 4)
    with pytest.raises(ValueError, match=r"each of 2 epochs\. Received: \(1\.0,\)"):
        trainer.fit(lstm_lm(30, (6,), batch_size=2, stateful=True), "other", 2, (1.0,))


def test_a_text_that_is_too_short_is_refused(tmp_path):
    text = load_text(vocabulary=30)
    with pytest.raises(ValueError, match=r"train: .* more than 20 times 35 words\. Received: 60"):
        LanguageTrainer(tmp_path, type(text)(text.words, *[text.train[:60]] * 3))
