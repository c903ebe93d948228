"""The peer of benchmark_compact: Torch-Pruning on torchvision's networks. It needs PyTorch and no TensorFlow.

For the name of a network on each line of its input it prints one line of JSON: the seconds that Torch-Pruning takes to
follow the network ("graph"), and to find and remove half of the channels everywhere ("removal").
"""

import json
import sys
import time

import torch
import torch_pruning
import torchvision


def measure(name):
    """Seconds to follow a network, and to remove half of its channels."""
    model = getattr(torchvision.models, name)(weights=None).eval()
    *_, last = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    start = time.perf_counter()
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        torch.zeros(1, 3, 224, 224),
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[last],
    )
    followed = time.perf_counter()
    pruner.step()
    return {"graph": followed - start, "removal": time.perf_counter() - followed}


def main():
    """Answer until the input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(measure(line.strip())), flush=True)


if __name__ == "__main__":
    main()
