"""The ways to exchange digits, one object each; all of them give every worker the same average, bit by bit.

| | what travels |
|---|---|
| `Words` | int64 words in base 2NL + 1, which add up digit by digit: one allreduce |
| `Bytes` | every worker's bytes to every other: one allgather |
| `Shards` | the bytes of each shard to the worker that sums them, and the sums to all: an alltoall, an allgather |

To add one, write a class of `Schedule` in a file of its own and register an instance below; nothing else knows names.
"""

from tf_terngrad.ternary.schedules.bytes import Bytes
from tf_terngrad.ternary.schedules.registry import (
    AUTOMATIC,
    SCHEDULES,
    choose,
    is_registered,
    register_schedule,
    schedule_of,
)
from tf_terngrad.ternary.schedules.schedule import LARGEST, Schedule
from tf_terngrad.ternary.schedules.shards import Shards
from tf_terngrad.ternary.schedules.words import Words

__all__ = [
    "AUTOMATIC",
    "LARGEST",
    "SCHEDULES",
    "Schedule",
    "choose",
    "is_registered",
    "register_schedule",
    "schedule_of",
]

# "auto" takes the first of those that cost the same, and of those that can carry a gradient of unknown size.
for _schedule in (Words(), Bytes(), Shards()):
    register_schedule(_schedule)
