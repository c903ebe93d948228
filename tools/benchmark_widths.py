"""What widths that the hardware likes bring: bytes and milliseconds of TFLite files, pruned to one budget.

python -m tools.benchmark_widths
python -m tools.benchmark_widths --networks=MobileNetV2 --resource=multiply_adds --share=0.5

Each network has random weights, the same ones each time. It is pruned by `tt.prune` to a share of what it costs, with
round_to=1, 8, 16 and "auto", compacted and converted. The files of a network are run in turns on one thread, in the
processor's time, until the shortest run of each stays as it is. Prints a line for each; ratios are to round_to=1.
The first time, the operators of a network are measured: some minutes.
"""

import pathlib
import tempfile

import keras
from absl import app, flags

import tf_terngrad as tt
from models.cifarnet import cifarnet
from models.lenet import lenet
from models.resnet20 import resnet20
from tf_terngrad.console import growing_table
from tf_terngrad.tflite.stopwatch import settled_times
from tools.applications import application

WIDTHS = (1, 8, 16, "auto")
TITLES = ["network", "round_to", "multiply-adds", "predicted ms", "measured ms", "to 1", "bytes", "to 1"]


NETWORKS = {
    "lenet": lenet,
    "cifarnet": cifarnet,
    "resnet20": resnet20,
    "MobileNetV2": application("MobileNetV2"),
    "ResNet50": application("ResNet50"),
}

CHOSEN = flags.DEFINE_list("networks", list(NETWORKS), "Those to prune.")
RESOURCE = flags.DEFINE_enum("resource", "latency", ["latency", "multiply_adds"], "What the budget limits.")
SHARE = flags.DEFINE_float("share", 0.5, "Of it, what the pruned network may cost.", lower_bound=0.01, upper_bound=1)


def main(_):
    """Prune and measure all."""
    budget = tt.Budget(**{RESOURCE.value: SHARE.value})
    with growing_table(TITLES) as add, tempfile.TemporaryDirectory() as folder:
        for name in CHOSEN.value:
            whole, pruned = tt.costs(NETWORKS[name]()).multiply_adds, {}
            for round_to in WIDTHS:
                try:
                    pruned[round_to] = prune(NETWORKS[name], budget, round_to)
                except ValueError as refused:  # so coarse widths cannot meet the budget
                    print(f"{name}, round_to={round_to}: {refused}")
            files = [converted(small, pathlib.Path(folder) / "pruned.tflite") for small, _ in pruned.values()]
            times = settled_times(files)
            for (round_to, (small, predicted)), file, time in zip(pruned.items(), files, times, strict=True):
                add(
                    name,
                    round_to,
                    f"{tt.costs(small).multiply_adds / whole:.3f}",
                    f"{predicted:.4f}",
                    f"{time:.4f}",
                    f"{time / times[0]:.3f}",
                    f"{len(file):,}",
                    f"{len(file) / len(files[0]):.3f}",
                )


def prune(build, budget, round_to):
    """The compact network, and the milliseconds that are predicted for it."""
    keras.utils.set_random_seed(0)
    model = build()
    gone = tt.prune(model, budget, round_to=round_to)
    costs = tt.costs(model)
    stay = {each.name: each.size - len(gone.get(each.name, ())) for each in costs.structures}
    return tt.compact(model), costs.of(stay).latency


def converted(model, path):
    """The bytes of a model's TFLite file."""
    tt.tflite.convert(model, path)
    return path.read_bytes()


if __name__ == "__main__":
    app.run(main)
