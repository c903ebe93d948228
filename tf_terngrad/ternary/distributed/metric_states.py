"""Metrics of all workers' data: their states add up where Keras' own metrics made them."""

import keras


def adding_up(model) -> list:
    """The metrics of a model whose states, summed over workers, are those of all data together.

    So are those of Keras: they count, or sum, over examples. Who updates a state by code of his own may do anything.
    """
    found = [part for metric in model.metrics for part in getattr(metric, "metrics", None) or [metric]]
    return [metric for metric in found if type(metric).update_state.__module__.startswith("keras.")]


def variables(model) -> list:
    """The variables of the metrics that add up."""
    return [variable for metric in adding_up(model) for variable in metric.variables]


def states(model) -> list[tuple]:
    """Of each metric that adds up its name and its arrays; it pickles."""
    return [(each.name, [keras.ops.convert_to_numpy(v) for v in each.variables]) for each in adding_up(model)]


def are_alike(everyones) -> bool:
    """Whether the states of several workers are those of the same metrics."""
    kinds = [[(name, [array.shape for array in arrays]) for name, arrays in each] for each in everyones]
    return all(kind == kinds[0] for kind in kinds)


def results(model) -> dict:
    """The values of a model's metrics, by their names in the logs."""
    return {name: keras.ops.convert_to_numpy(value) for name, value in model.get_metrics_result().items()}


def merged_results(model, everyones) -> dict:
    """The values that a model's metrics would have for several workers' data together; its own states stay.

    Args:
        model: with the metrics.
        everyones: the `states` of each worker.
    """
    mine = variables(model)
    own = [keras.ops.convert_to_numpy(variable) for variable in mine]
    everyones = [[array for _, arrays in each for array in arrays] for each in everyones]
    try:
        for variable, arrays in zip(mine, zip(*everyones, strict=True), strict=True):
            # float32 would lose what single workers have counted
            exact = "float64" if keras.backend.is_float_dtype(variable.dtype) else "int64"
            variable.assign(sum(array.astype(exact) for array in arrays).astype(arrays[0].dtype))
        return results(model)
    finally:
        for variable, array in zip(mine, own, strict=True):
            variable.assign(array)
