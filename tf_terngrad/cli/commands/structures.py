"""Print what can leave a saved model, what cannot, and why.

A structure is a set of members, such as the filters of a layer, that can leave one by one with all weights that belong
to them. Members whose weights are all zero cost nothing to take out.

With --latency, it also measures the operators of the model's TFLite file on one thread of this machine (minutes, the
first time), and tells the milliseconds by layer, and what leaves with fewer members: with the next one, and with those
down to a multiple of 8 and of 16.

Examples:
  tf-terngrad structures model.keras
  tf-terngrad structures model.keras --custom=layers.py
  tf-terngrad structures model.keras --json > model.json
  tf-terngrad structures model.keras --latency
"""

import json

import numpy as np

from tf_terngrad.cli.files import add_model_arguments, load_model
from tf_terngrad.console import doing, show_table
from tf_terngrad.sparsity.costs import costs
from tf_terngrad.sparsity.learn.choice import widths
from tf_terngrad.sparsity.structures import structures


def add_arguments(parser) -> None:
    """Add the model, and how to print."""
    parser.add_argument("model", metavar="MODEL.keras", help="a saved Keras model; .h5 is read too")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--latency", action="store_true", help="measure milliseconds by layer, and what widths give")
    add_model_arguments(parser)


def run(arguments) -> None:
    """Load, look, print."""
    model = load_model(arguments.model, arguments)
    with doing("Following the model's dimensions"):
        whole = known_costs(model)
        found = described(model, whole)
    if arguments.latency:
        found["latency"] = timed(model, whole)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(arguments.model, found)
        if arguments.latency:
            show_latency(found["latency"])


def described(model, whole) -> dict:
    """What can leave a model and what cannot, in plain numbers and texts."""
    found = structures(model)
    each = {cost.name: cost for cost in whole.structures} if whole else {}
    return {
        "parameters": model.count_params(),
        "multiply_adds": total(cost.multiply_adds for cost in whole.layers) if whole else None,
        "open_sizes": any(None in tensor.shape[1:] for tensor in model.inputs),
        "structures": [
            {
                "name": structure.name,
                "kind": structure.kind,
                "members": structure.size,
                "zero": int(np.count_nonzero(structure.norms() == 0)),
                "weights_each": each[structure.name].parameters if each else None,
                "multiply_adds_each": each[structure.name].multiply_adds if each else None,
                "layers": list(structure.layers),
            }
            for structure in found
        ],
        "frozen": [
            {"name": frozen.name, "channels": frozen.size, "reasons": list(frozen.reasons)} for frozen in found.frozen
        ],
    }


def timed(model, whole) -> dict:
    """Milliseconds of a model as a TFLite file: of it all, by layer, and what leaves with members of structures."""
    if whole is None:
        raise ValueError(f"Model '{model.name}' leaves sizes open that its latency depends on, and they cannot be 1.")
    kinds = widths(whole.structures)
    return {
        "milliseconds": whole.latency,
        "layers": whole.latency_by_layer,
        "structures": [
            {"name": each.name, "members": each.size, "fewer": {n: whole.latency - of for n, of in _fewer(whole, each)}}
            for each in whole.structures
            if each.kind in kinds and each.size > 1
        ],
    }


def _fewer(whole, structure):
    """Pairs of a smaller number of members and the milliseconds then: one less, and the next multiples down."""
    size = structure.size
    smaller = {size - 1, *((size - 1) // step * step for step in (8, 16))} - {0}
    return [(width, whole.of({structure.name: width}).latency) for width in sorted(smaller, reverse=True)]


def show_latency(found) -> None:
    """Print tables of milliseconds."""
    print(f"\nAs a TFLite file on one thread: {found['milliseconds']:.4g} ms")
    rows = sorted(found["layers"].items(), key=lambda row: -row[1])
    show_table(
        ["layer", "milliseconds", "share"],
        [(name, f"{time:.4g}", f"{100 * time / found['milliseconds']:.1f} %") for name, time in rows],
    )
    print("\nWhat a smaller width saves:")
    show_table(
        ["structure", "members", "to", "milliseconds less", "share"],
        [
            (row["name"], row["members"], width, f"{less:.2g}", f"{100 * less / found['milliseconds']:.1f} %")
            for row in found["structures"]
            for width, less in row["fewer"].items()
        ],
    )


def show(name, found) -> None:
    """Print tables of what can leave and what cannot."""
    cost = f"{_count(found['multiply_adds'])} multiply-adds an example"
    if found["open_sizes"] and found["multiply_adds"]:
        cost += " (sizes that the inputs leave open count as 1)"
    print(f"{name}: {found['parameters']:,} parameters, {cost}")
    print("\nCan leave:" if found["structures"] else "\nNothing can leave.")
    if found["structures"]:
        show_table(
            ["structure", "kind", "members", "of them zero", "weights each", "multiply-adds each"],
            [
                (
                    *(row["name"], row["kind"], row["members"], row["zero"]),
                    *(_count(row["weights_each"], ""), _count(row["multiply_adds_each"], "")),
                )
                for row in found["structures"]
            ],
            text=["kind"],
        )
    if found["frozen"]:
        print("\nCannot leave:")
        rows = [(row["name"], row["channels"] or "all", "; ".join(row["reasons"])) for row in found["frozen"]]
        show_table(["layer", "channels", "why"], rows, text=["why"])
    print(f"\n{_advice(found)}")


def known_costs(model):
    """The `Costs` of a model; None where open sizes cannot be 1."""
    shapes = [[size or 1 for size in tensor.shape[1:]] for tensor in model.inputs]
    try:
        return costs(model, shapes)
    except ValueError:
        return None


def total(counts):
    """Their sum, or None if one is not known."""
    counts = list(counts)
    return None if None in counts else sum(counts)


def _advice(found):
    zero = sum(row["zero"] for row in found["structures"])
    if zero:
        return f"{zero:,} members are zero: tf-terngrad compact takes them out."
    if found["structures"]:
        return "No member is zero yet. Train with tt.sparsify(model, strength=...), then compact."
    return "No layer is known to have members that can leave; see the reasons above."


def _count(number, unknown="an unknown number of"):
    return unknown if number is None else f"{number:,}"
