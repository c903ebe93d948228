"""The one registry of rules by layer type or function; a subclass that changes nothing is looked up as its parent."""

import dataclasses
import weakref

import keras

from tf_terngrad.keras_internals import Functional, is_graph
from tf_terngrad.sparsity.rules import subclasses
from tf_terngrad.sparsity.rules.base import Frozen, Quantized, Rule, Unknown


@dataclasses.dataclass
class _Entry:
    """What was registered for one layer type: its rule, and a cost in place of the rule's."""

    rule: Rule | None = None
    cost: object = None


_REGISTRY = {}
_SHOWN = weakref.WeakKeyDictionary()


def register_rule(layer_type, rule):
    """Teach the package all that a `Rule` says of a layer type, or how a function acts that is given as an activation.

    Use it when `tt.structures` reports that no rule knows a layer of yours, or freezes what an activation of yours
    touches.

    A subclass is known as its parent as long as it has nothing of its own that the parent computes with: a method
    such as `call` or `build`, a property, a weight. Otherwise it is unknown, and keeps its width.

    A function of Keras operations is traced, and one that cannot be traced is tried on numbers; a rule of its own is
    believed instead, wherever that function is given as an activation.

    Args:
        layer_type: a `keras.layers.Layer` or `keras.Operation` class, or a function of one tensor.
        rule: an instance of `Rule`; ready-made ones are in `tf_terngrad.sparsity.rules`, such as `Elementwise()`. Of a
            function, `Elementwise()`, or `Frozen(reason)` if channels stay where it acts.

    Raises:
        TypeError: for anything else.

    Example:

    ```python
    @keras.saving.register_keras_serializable()
    class Swish6(keras.layers.Layer):
        def call(self, x):
            return x * keras.ops.relu6(x + 3) / 6

    tt.register_rule(Swish6, tt.rules.Elementwise())
    tt.register_rule(tf.nn.crelu, tt.rules.Frozen("it doubles the channels"))
    ```
    """
    function = callable(layer_type) and not isinstance(layer_type, (type, keras.Operation))
    if not function:
        _check_type("register_rule", layer_type, "classes of Keras layers or operations, or a function")
    if not isinstance(rule, Rule):
        raise TypeError(
            f"register_rule: expected an instance of tt.Rule for {_name(layer_type)}, such as "
            f"tt.rules.Elementwise(). Received: rule={rule!r}"
        )
    if function and not (rule.elementwise or isinstance(rule, Frozen)):
        raise TypeError(
            f"register_rule: expected tt.rules.Elementwise() or tt.rules.Frozen(reason) for the function "
            f"{_name(layer_type)}, for it is known as an activation only. Received: rule={rule!r}"
        )
    _REGISTRY.setdefault(layer_type, _Entry()).rule = rule


def register_cost(*layer_types):
    """Teach the package what layer types cost, and nothing else of them.

    Use it when a report notes layers that nobody can count. It takes the place of the cost of the type's rule and of
    its subclasses, as `register_rule` says; a type without a rule keeps its width as before.

    The function is (layer, output, *the call's arguments) -> multiply-adds; output and arguments are symbolic tensors
    whose shapes begin with a batch of one.

    Args:
        *layer_types: `keras.layers.Layer` or `keras.Operation` classes.

    Raises:
        TypeError: for anything else.

    Example:

    ```python
    @tt.register_cost(Gate)
    def gate(layer, output, inputs):
        return math.prod(output.shape) * inputs.shape[-1]
    ```
    """
    if not layer_types:
        raise TypeError("register_cost: expected at least one class of Keras layers or operations. Received: none")
    for layer_type in layer_types:
        _check_type("register_cost", layer_type)

    def register(cost):
        if not callable(cost):
            raise TypeError(f"register_cost: expected a function (layer, output, *arguments). Received: {cost!r}")
        for layer_type in layer_types:
            _REGISTRY.setdefault(layer_type, _Entry()).cost = cost
        return cost

    return register


def rule_for(layer):
    """The rule of a layer or operation.

    Use it when a rule of your own asks the rule of a layer inside.
    """
    rule, _ = _look_up(layer)
    if type(rule) is Unknown:
        rule = _SHOWN.get(layer, rule)
    quantized = getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False)
    return Quantized(rule) if quantized and not is_graph(layer) else rule


def show_rule(layer, rule):
    """Note the rule that the call of one layer of the user's has shown, of whose type none is known."""
    _SHOWN[layer] = rule


def function_rule(function):
    """The rule that was registered for a function, or None."""
    try:
        entry = _REGISTRY.get(function)
    except TypeError:  # what has no hash was never registered
        return None
    return entry and entry.rule


def cost_for(layer):
    """The function that counts a layer's multiply-adds; None: those of its parts count, if it has any."""
    rule, cost = _look_up(layer)
    composed = rule.expands or type(rule).parts is not Rule.parts
    counts = type(rule).multiply_adds is not Rule.multiply_adds or not composed
    return cost or (rule.multiply_adds if counts else None)


def registered_cost(layer):
    """The function that `register_cost` has for a layer; None: there is none."""
    return _look_up(layer)[1]


def multiply_adds(layer, output, *args, **kwargs):
    """What one call of a layer without parts costs: an integer, or None where nobody knows."""
    cost = cost_for(layer)
    return None if cost is None else cost(layer, output, *args, **kwargs)


def _look_up(layer):
    """The rule of a layer, and the cost that was registered in place of the rule's (or None)."""
    graph, cost = is_graph(layer), None
    for parent in type(layer).__mro__:
        entry = _REGISTRY.get(parent)
        if entry is None:
            continue
        reason = None if graph else _why_another(layer, parent, entry.rule)
        if reason:
            return Unknown(reason), cost
        cost = cost or entry.cost
        if entry.rule is not None:
            return entry.rule, cost
    return _REGISTRY[Functional].rule if graph else Unknown(), cost


def _why_another(layer, parent, rule):
    """Why a layer is not known as one of its ancestors; None: it computes what that one computes."""
    own = subclasses.differences(layer, parent)
    if own:
        return f"unlike {parent.__name__}, it has its own {', '.join(own)}"
    if parent is type(layer) or rule is None or isinstance(rule, Frozen):
        return None
    strange = _strange_weights(layer, rule)
    if strange:
        return f"the rule of {parent.__name__} does not know its weights {', '.join(strange)}"
    if not subclasses.makes_itself_again(layer, parent):
        return f"from_config(get_config()) does not make it again as a {parent.__name__}"
    return None


def _strange_weights(layer, rule):
    """The names of the weights that neither the rule knows nor the rules of the layers inside."""
    weights = getattr(layer, "weights", ())
    known = {id(weight) for inner in rule.held(layer) for weight in inner.weights} if weights else ()
    named = rule.axes(layer) if weights else ()
    return [weight.name for weight in weights if weight.name not in named and id(weight) not in known]


def _check_type(who, layer_type, expected="classes of Keras layers or operations"):
    if not (isinstance(layer_type, type) and issubclass(layer_type, keras.Operation)):
        raise TypeError(f"{who}: expected {expected}. Received: {layer_type!r}")


def _name(layer_type):
    return getattr(layer_type, "__name__", repr(layer_type))
