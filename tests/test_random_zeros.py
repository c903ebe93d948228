"""What is zero leaves and nothing else does, over random graphs: of stock layers, of composites, of transformers."""

import composite_graphs
import graphs
import hypothesis
import hypothesis.strategies as st
import pytest
import transformer_graphs
from laws import check_random_members, check_random_zeros

pytestmark = pytest.mark.filterwarnings("ignore:.*every channel is dead")
TRANSFORMERS = pytest.mark.filterwarnings("ignore:.*one dead channel is kept", "ignore:.*does not support masking")


@pytest.mark.parametrize("check", [check_random_members, check_random_zeros])
@pytest.mark.parametrize(
    "kind, examples",
    [
        pytest.param(graphs, 30, id="stock"),
        pytest.param(composite_graphs, 6, id="composites"),
        pytest.param(transformer_graphs, 5, id="transformers", marks=TRANSFORMERS),
    ],
)
def test_zeros_leave_and_nothing_else(kind, examples, check):
    @hypothesis.given(st.randoms(use_true_random=False), st.integers(0, 99))
    @hypothesis.settings(max_examples=examples)
    def law(choices, seed):
        check(kind.grow(choices), seed)

    law()
