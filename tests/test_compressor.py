"""What a TernGrad is told, and what it keeps of it."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import tf_terngrad as tt
from tf_terngrad.ternary.horovod import horovod


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"clip": 0}, ValueError, "clip=0"),
        ({"clip": -2.5}, ValueError, "clip=-2.5"),
        ({"clip": float("nan")}, ValueError, "clip=nan"),
        ({"levels": 0}, ValueError, "levels=0"),
        ({"bucket_size": 0}, ValueError, "bucket_size=0"),
        ({"schedule": "ring"}, ValueError, "schedule='ring'"),
        ({"share_scales": False, "schedule": "words"}, ValueError, "own need schedule='bytes'"),
        ({"clip": True}, TypeError, "clip=True"),
        ({"clip": "2.5"}, TypeError, "clip='2.5'"),
        ({"bucket_size": True}, TypeError, "bucket_size=True"),
        ({"levels": np.int64(128)}, ValueError, "levels=.*128"),
        ({"clip": np.float32(0)}, ValueError, "clip=.*0"),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"seed": True}, TypeError, "seed=True"),
        ({"seed": 2**63}, ValueError, "seed=9223372036854775808"),
        ({"smallest": None}, TypeError, "smallest=None"),
        ({"smallest": -1}, ValueError, "at least 0.*smallest=-1"),
        ({"process_set": 0}, TypeError, "ProcessSet.*process_set=0"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        tt.TernGrad(**arguments)


def test_equal_settings_are_equal_hash_alike_and_survive_serialization():
    one = tt.TernGrad(clip=None, levels=3, schedule="shards", seed=7)
    assert one == dataclasses.replace(one) != tt.TernGrad()
    assert hash(one) == hash(dataclasses.replace(one))
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one)) == one
    assert tt.TernGrad.from_config(one.get_config()) == one


NUMBERS = {"clip": np.float32(2.5), "levels": np.int64(3), "bucket_size": np.int32(50), "smallest": np.uint8(7)}


def test_numpys_numbers_are_kept_as_pythons():
    given = tt.TernGrad(**NUMBERS, seed=np.int64(-5))
    plain = tt.TernGrad(clip=2.5, levels=3, bucket_size=50, smallest=7, seed=-5)
    assert given == plain and hash(given) == hash(plain)
    assert json.dumps(given.get_config()) == json.dumps(plain.get_config())
    assert repr(given) == repr(plain)


def test_compression_names_horovods_own_beside_terngrad():
    assert isinstance(tt.Compression.terngrad, tt.TernGrad)
    assert tt.Compression.none is horovod().Compression.none
    assert tt.Compression.fp16 is horovod().Compression.fp16
    assert {"none", "fp16", "terngrad"} <= set(dir(tt.Compression))
