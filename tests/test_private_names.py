"""Private names of Keras and TensorFlow, and changes of what is theirs, stand in one folder alone."""

import ast
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SOURCES = {
    CHECKOUT / "train.py",
    *(p for f in ("tf_terngrad", "models", "tools") for p in (CHECKOUT / f).rglob("*.py")),
}
INTERNALS = {*(CHECKOUT / "tf_terngrad" / "keras_internals").glob("*.py")}
HOROVODS = {"_httpd"}  # the socket of its server, which tools/network_lab.py closes


def _attributes(tree):
    """The attributes with a leading underscore that are read or set on anything but an object's own self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[:2] != "__":
            owner = node.value
            own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
            if not own and not (isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "super"):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and name.value[0] == "_" and name.value[:2] != "__":
                yield name.value


def _modules(tree):
    """The first two parts of the names of the modules that a file imports from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield ".".join((node.module or "").split(".")[:2])
        elif isinstance(node, ast.Import):
            yield from (".".join(name.name.split(".")[:2]) for name in node.names)


def _defined(tree):
    """The names with a leading underscore that a file gives to attributes, methods and functions of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _root(node):
    """The name that an expression such as keras.Layer.call starts with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _changed(tree):
    """The attributes that a file sets on what belongs to Keras or TensorFlow."""
    theirs = {"keras", "layers", "ops", "tf", "tensorflow"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and _root(node.value) in theirs:
            theirs |= {name.id for name in node.targets if isinstance(name, ast.Name)}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) in theirs:
            yield ast.unparse(node)


def test_nothing_of_keras_and_tensorflow_is_changed_elsewhere():
    assert [*_changed(ast.parse("L = keras.Layer; L.call = 1; tf.ones = self.x = 2"))] == ["L.call", "tf.ones"]
    for path in SOURCES - INTERNALS:
        assert not [*_changed(ast.parse(path.read_text("utf-8")))], path


def test_private_names_of_keras_and_tensorflow_stand_in_one_folder():
    trees = {path: ast.parse(path.read_text("utf-8")) for path in SOURCES}
    ours = {name for tree in trees.values() for name in _defined(tree)} | HOROVODS
    theirs = {name for path in INTERNALS for name in _attributes(trees.pop(path))}
    assert {"_nodes_by_depth", "_keras_history", "_flatten_layers"} <= theirs
    for path, tree in trees.items():
        used = {*_attributes(tree)}
        assert not used & theirs and not used - ours, path
        assert not {"keras.src", "tensorflow.python"} & {*_modules(tree)}, path
