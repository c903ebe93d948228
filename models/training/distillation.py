"""Knowledge distillation: a small network learns from the answers of a large one as well as from the labels."""

import keras
import numpy as np

from models.data.augmentation import shifts


class Distillation(keras.losses.Loss):
    """The labels' cross-entropy, mixed with the divergence from a teacher's softened answers (Hinton et al., 2015).

        (1 - share) CE(label, softmax z) + share T^2 KL(softmax(t / T), softmax(z / T))

    for logits z and the teacher's logits t, behind the label in the targets (..., 1 + classes). The factor T^2 keeps
    the gradients of both parts of one size.

    Args:
        temperature: T; above 1 it shows which wrong classes the teacher finds likely.
        share: of the teacher's part, 0 to 1.
    """

    def __init__(self, temperature: float = 4.0, share: float = 0.9):
        super().__init__(name="distillation")
        self.temperature = temperature
        self.share = share

    def call(self, targets, logits):
        """The loss of each example."""
        labels, teacher = targets[..., 0], targets[..., 1:]
        soft = keras.ops.softmax(teacher / self.temperature)
        log_ratio = keras.ops.log_softmax(teacher / self.temperature) - keras.ops.log_softmax(logits / self.temperature)
        towards_teacher = keras.ops.sum(soft * log_ratio, axis=-1)
        towards_label = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return (1 - self.share) * towards_label + self.share * self.temperature**2 * towards_teacher


def lesson(teacher: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The targets of `Distillation`: each label, and behind it the teacher's logits, averaged over the image's shifts.

    The average over the nine images that `shift` makes of one knows more than the teacher's answer to that one.

    Args:
        teacher: from images to logits.
        images: of shape (count, height, width, channels).
        labels: of shape (count,).

    Returns:
        float32 (count, 1 + classes).
    """
    answers = [teacher.predict(moved, batch_size=1000, verbose=0) for moved in shifts(images)]
    return np.concatenate([labels[:, None], np.mean(answers, axis=0)], axis=1, dtype="float32")


def label_loss() -> keras.losses.Loss:
    """The cross-entropy between labels and logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(targets, logits):
    """Which examples' largest logit is the label's, for `Distillation`'s targets."""
    return keras.metrics.sparse_categorical_accuracy(targets[:, 0], logits)
