"""What a distributed optimizer or tape is told about how gradients travel."""

import horovod.tensorflow as hvd
import numpy as np
import pytest

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed.settings import Settings


def test_horovods_names_of_operations_are_taken():
    assert Settings(op=hvd.Sum) == Settings(op="sum")
    assert Settings(op=hvd.Average) == Settings(op="average") == Settings()


@pytest.mark.parametrize("name", ["Adasum", "Min", "Max", "Product"])
def test_operations_that_do_not_add_are_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"'average', 'sum'.*op='{name.lower()}'"):
        Settings(op=getattr(hvd, name))


@pytest.mark.parametrize("op", [17, True, False, 1.0, None])
def test_what_is_no_operation_is_refused(op):
    with pytest.raises(ValueError, match=f"op={op}"):
        Settings(op=op)


def test_the_process_set_is_that_of_either_and_two_are_refused():
    some, others = hvd.ProcessSet([0, 2]), hvd.ProcessSet([1, 3])
    assert Settings(TernGrad(process_set=some)).process_set is some
    assert Settings(TernGrad(), process_set=some).process_set is some
    assert Settings(TernGrad(process_set=some), process_set=some).process_set is some
    for other in (others, hvd.global_process_set):
        with pytest.raises(ValueError, match=r"ranks=\[0, 2\].* and process_set=.*ranks="):
            Settings(TernGrad(process_set=some), process_set=other)


def test_fusions_have_a_number_of_bytes():
    assert Settings(fusion_bytes=np.int64(5)) == Settings(fusion_bytes=5)
    for wrong, error in ((True, TypeError), (1e6, TypeError), (0, ValueError)):
        with pytest.raises(error, match=f"fusion_bytes={wrong}"):
            Settings(fusion_bytes=wrong)
