"""The peer of tools/benchmark_compact.py: Torch-Pruning on torchvision's networks. It needs PyTorch, not TensorFlow.

For every name of a network that it reads, it answers with one line of JSON: the seconds that Torch-Pruning takes to
follow the network ("graph") and to remove half of the channels of every group ("removal").
"""

import json
import sys
import time

import torch
import torch_pruning
import torchvision


def measure(name):
    """Seconds to follow a network and to remove half of every group."""
    model = getattr(torchvision.models, name)(weights=None).eval()
    example = torch.zeros(1, 3, 224, 224)
    *_, last = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    start = time.perf_counter()
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
    followed = time.perf_counter()
    kinds = [torch.nn.Conv2d, torch.nn.Linear]
    for group in graph.get_all_groups(ignored_layers=[last], root_module_types=kinds):
        group.prune(idxs=list(range(len(group[0].idxs) // 2)))
    return {"graph": followed - start, "removal": time.perf_counter() - followed}


def main():
    """Answer until the input ends."""
    torch.set_num_threads(1)
    print(json.dumps({"version": torch_pruning.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(line.strip())), flush=True)


if __name__ == "__main__":
    main()
