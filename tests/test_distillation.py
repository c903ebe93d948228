"""A network that learns from the answers of another one."""

import keras
import numpy as np
import pytest

from models.data.augmentation import shift
from models.training.distillation import Distillation, accuracy, lesson
from models.training.trainer import Trainer

RANDOM = np.random.default_rng(5)
IMAGES, LABELS = RANDOM.normal(size=(60, 3, 2, 1)).astype("float32"), RANDOM.integers(0, 3, 60)


def linear(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize(("temperature", "share"), [(4.0, 0.9), (1.0, 0.5), (2.0, 0.0)])
def test_the_loss_is_hintons_formula(temperature, share):
    logits, teacher = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    labels = np.array([0, 2, 1, 1, 0])
    soft = np.exp(log_softmax(teacher / temperature))
    towards_teacher = (soft * np.log(soft / np.exp(log_softmax(logits / temperature)))).sum(-1)
    towards_label = -log_softmax(logits)[np.arange(5), labels]
    expected = np.mean((1 - share) * towards_label + share * temperature**2 * towards_teacher)
    targets = np.concatenate([labels[:, None], teacher], axis=1).astype("float32")
    found = Distillation(temperature, share)(targets, logits)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)


def test_targets_hold_labels_and_the_teachers_logits_averaged_over_the_shifts():
    teacher = linear(0)
    targets = lesson(teacher, IMAGES, LABELS)
    padded = np.pad(IMAGES, [(0, 0), (1, 1), (1, 1), (0, 0)])
    answers = [teacher(padded[:, top : top + 3, left : left + 2]) for top in range(3) for left in range(3)]
    assert (targets.shape, targets.dtype) == ((60, 4), np.float32)
    np.testing.assert_array_equal(targets[:, 0], LABELS)
    np.testing.assert_allclose(targets[:, 1:], np.mean(answers, axis=0), rtol=1e-4, atol=1e-6)
    right = keras.ops.convert_to_numpy(accuracy(targets, keras.ops.one_hot(LABELS, 3)))
    assert right.all()


def test_images_move_by_a_pixel_at_most_every_way_and_the_same_way_again():
    images = np.random.default_rng(0).uniform(1, 2, (300, 4, 5, 2)).astype("float32")
    moved = shift(images, [1, 2, 3]).numpy()
    np.testing.assert_array_equal(moved, shift(images, [1, 2, 3]))
    assert (moved != shift(images, [1, 2, 4]).numpy()).any()
    assert (moved != shift(images, [1, 3, 3]).numpy()).any()
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    ways = {
        (top, left): [bool((moved[i] == padded[i, top : top + 4, left : left + 5]).all()) for i in range(300)]
        for top in range(3)
        for left in range(3)
    }
    assert np.sum(list(ways.values()), axis=0).tolist() == [1] * 300
    assert all(15 <= sum(way) <= 55 for way in ways.values())


def test_a_student_comes_close_to_its_teacher_and_is_saved_as_stock_keras(tmp_path):
    random = np.random.default_rng(0)
    colours = random.normal(size=(240, 1, 1, 3)) + 0.1 * random.normal(size=(240, 8, 8, 3))
    images = colours.astype("float32")
    teacher, student = (
        keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Dense(3)])
        for layer in (keras.layers.GlobalAveragePooling2D(), keras.layers.Flatten())
    )
    labels = keras.ops.convert_to_numpy(teacher(images)).argmax(-1)
    trainer = Trainer(tmp_path, (images, labels), (images, labels), batch_size=10, optimizer=keras.optimizers.Adam)
    before = trainer.test_error(student)
    curves = trainer.fit(student, "student", 40, learning_rate=0.05, teacher=teacher)
    assert trainer.test_error(student) <= 0.1 < before
    assert curves["val_accuracy"][-1] == pytest.approx(1 - trainer.test_error(student), abs=1e-6)
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded(images), student(images))
    loaded.evaluate(images, labels, verbose=0)


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    other = keras.Sequential([keras.Input((3, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    trainer = Trainer(tmp_path, (IMAGES, LABELS), (IMAGES, LABELS))
    with pytest.raises(ValueError, match="does not fit the data"):
        trainer.fit(linear(0), "student", 1, 0.1, teacher=other)
