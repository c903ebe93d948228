"""The equation of an einsum against NumPy: ones through ones give the number of products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_terngrad.sparsity.rules.equation import Equation

LETTERS = "abcdef"


@given(st.data())
def test_the_multiply_adds_are_the_products_that_are_summed(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=6, max_size=6))
    terms = [data.draw(st.lists(st.sampled_from(LETTERS), unique=True, max_size=4)) for _ in range(2)]
    hidden = [data.draw(st.lists(st.integers(1, 3), max_size=2))] * 2
    shapes = [
        (*front, *(sizes[LETTERS.index(letter)] for letter in term)) for front, term in zip(hidden, terms, strict=True)
    ]
    text = ",".join("..." + "".join(term) for term in terms)
    letters = "".join(sorted(set(terms[0]) | set(terms[1])))
    result = "".join(letter for letter in letters if data.draw(st.booleans()))
    products = np.einsum(f"{text}->...{letters}", *map(np.ones, shapes)).sum()
    expected = products if len(result) < len(letters) else 0
    assert Equation.parse(f" {text} -> ... {result}").multiply_adds(*shapes) == expected


@pytest.mark.parametrize("shapes", [((3, 4), (5, 1, 4, 2)), ((5, 3, 4), (4, 2)), ((4,), (5, 3, 4, 2))])
def test_an_ellipsis_is_broadcast(shapes):
    equation = "...i,...ij->...j"
    products = np.einsum("...i,...ij->...ij", *map(np.ones, shapes))
    assert Equation.parse(equation).multiply_adds(*shapes) == products.sum()


def test_an_axis_has_the_same_letter_in_every_term():
    (first, second), result = vars(Equation.parse("...x,xy->...y").spelled((4, 2), 4)).values()
    assert (first[:3], first[-1], second) == (result[:3], "x", "xy")
