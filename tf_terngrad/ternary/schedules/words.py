"""Digits as words that add up: one allreduce."""

from tf_terngrad.ternary import codec
from tf_terngrad.ternary.cost import float_bytes
from tf_terngrad.ternary.layout import LARGEST_SUM, WORD_STRIDE, digits_per_word, outputs
from tf_terngrad.ternary.schedules.schedule import Schedule


class Words(Schedule):
    """One allreduce of words: digits in base 2NL + 1 that add up without a carry."""

    name = "words"
    largest_sum = LARGEST_SUM
    codec = 1.26e-9
    travel = 1.03e-9

    def run(self, load):
        workers = load.transport.size()
        words = codec.encode_words(*load.parts, workers, load.levels)
        total = load.transport.total(words, f"{load.name}.words")
        return codec.mean_of_words(total, load.lengths, load.scales, workers, load.levels, load.gradient.dtype)

    def bytes(self, size, workers, levels=1):
        words = outputs(size, digits_per_word(workers, levels), WORD_STRIDE)
        return float_bytes(words, workers, width=8)
