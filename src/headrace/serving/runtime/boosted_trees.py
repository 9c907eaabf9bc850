"""scikit-learn's HistGradientBoosting as ONNX, exactly: for skl2onnx, whose own converter reads splits by category as
comparisons of numbers.

One TreeEnsemble node of ai.onnx.ml 5 with everything in double precision. The base line is a tree of its own before all
others, so that the sum is made in scikit-learn's order and has the same last digit.
https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LEQ, _MEMBER = 0, 6  # of the operator's node modes
_DOUBLE, _INT64, _TEXT, _BOOL = 11, 7, 8, 9  # of TensorProto.DataType
_BITSET_BITS = 32
_MAX_MEMBER = 2**31
ML_OPSET, _IR_VERSION = 5, 10


@dataclass
class _Trees:
    """The operator's attributes while they are written, node by node and leaf by leaf."""

    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    ways: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    members: list[float] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def leaf(self, target: int, weight: float) -> tuple[int, int]:
        """Add a leaf; where it is, as a node's way names it."""
        self.leaf_targets.append(target)
        self.leaf_weights.append(weight)
        return len(self.leaf_weights) - 1, 1

    def constant(self, target: int, weight: float) -> None:
        """Add a tree that always says the same. The operator wants a split in it."""
        self.roots.append(len(self.modes))
        self.split(_LEQ, 0, math.inf, True)
        self.lead(self.leaf(target, weight), self.leaf(target, weight))

    def split(self, mode: int, feature: int, value: float, missing_true: bool) -> None:
        self.modes.append(mode)
        self.features.append(feature)
        self.splits.append(value)
        self.missing_true.append(int(missing_true))

    def lead(self, true: tuple[int, int], false: tuple[int, int]) -> None:
        self.ways[True].append(true)
        self.ways[False].append(false)

    def attributes(self, targets: int) -> dict[str, Any]:
        from onnx import numpy_helper

        tensors = {
            "nodes_modes": np.array(self.modes, np.uint8), "nodes_splits": np.array(self.splits),
            "leaf_weights": np.array(self.leaf_weights),
        } | ({"membership_values": np.array(self.members)} if self.members else {})  # fmt: skip
        made: dict[str, Any] = {name: numpy_helper.from_array(array, name) for name, array in tensors.items()}
        for way, word in ((True, "true"), (False, "false")):
            made[f"nodes_{word}nodeids"] = [at for at, _ in self.ways[way]]
            made[f"nodes_{word}leafs"] = [leaf for _, leaf in self.ways[way]]
        return made | {
            "nodes_featureids": self.features, "nodes_missing_value_tracks_true": self.missing_true,
            "leaf_targetids": self.leaf_targets, "tree_roots": self.roots, "n_targets": targets,
            "aggregate_function": 1, "post_transform": 0,
        }  # fmt: skip


def ensemble(model: Any) -> dict[str, Any]:
    """The attributes of the TreeEnsemble that gives a fitted model's raw predictions, [rows, targets]."""
    categories, order = _categories(model), list(range(model.n_features_in_))
    if categories:
        # The model puts the features with categories before the others.
        order = [*np.flatnonzero(model.is_categorical_), *np.flatnonzero(~model.is_categorical_)]
    trees = _Trees()
    for target, weight in enumerate(np.ravel(model._baseline_prediction)):
        trees.constant(target, float(weight))
    for iteration in model._predictors:
        for target, tree in enumerate(iteration):
            _add(trees, tree, target, categories, order)
    return trees.attributes(model.n_trees_per_iteration_)


def _categories(model: Any) -> list[list[float]]:
    """The known values of each feature with categories, in the order of their codes; NaN is none."""
    if model._preprocessor is None:
        return []
    known = model._preprocessor.named_transformers_["encoder"].categories_
    if not all(values.dtype.kind in "biuf" and _whole(values[values == values]) for values in known):
        raise NotImplementedError("its categories are no whole numbers")
    return [[float(value) for value in values if value == value] for values in known]


def _whole(values: Any) -> bool:
    """Whether ONNX Runtime takes them as members of a set."""
    return bool(np.all((values == np.floor(values)) & (np.abs(values) < _MAX_MEMBER)))


def _add(trees: _Trees, tree: Any, target: int, categories: list[list[float]], order: list[int]) -> None:
    nodes = tree.nodes
    inner = [index for index, node in enumerate(nodes) if not node["is_leaf"]]
    if not inner:
        trees.constant(target, float(nodes[0]["value"]))
        return
    trees.roots.append(len(trees.modes))
    places = {index: len(trees.modes) + at for at, index in enumerate(inner)}
    for index in inner:
        node = nodes[index]
        feature, missing_left = int(node["feature_idx"]), bool(node["missing_go_to_left"])
        ways = [int(node["left"]), int(node["right"])]
        if node["is_categorical"]:
            left = _codes(tree.raw_left_cat_bitsets[node["bitset_idx"]])
            # What is unknown goes where missing values go: to the side that is not asked for.
            asked = [v for code, v in enumerate(categories[feature]) if (code in left) != missing_left]
            if asked:
                trees.members += [*asked, math.nan]
                trees.split(_MEMBER, int(order[feature]), 0.0, False)
            else:
                trees.split(_LEQ, int(order[feature]), math.inf, True)
            if missing_left != (not asked):
                ways.reverse()
        else:
            trees.split(_LEQ, int(order[feature]), float(node["num_threshold"]), missing_left)
        true, false = (
            trees.leaf(target, float(nodes[way]["value"])) if nodes[way]["is_leaf"] else (places[way], 0)
            for way in ways
        )  # fmt: skip
        trees.lead(true, false)


def _codes(bitset: Any) -> set[int]:
    """The numbers of the bits that are set."""
    return {
        word * _BITSET_BITS + bit
        for word, bits in enumerate(bitset.tolist())
        for bit in range(_BITSET_BITS)
        if bits >> bit & 1
    }


def converters() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What skl2onnx is given: the conversions by estimator, and the shapes of their outputs."""
    from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
    from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

    return {Classifier: _classifier, Regressor: _regressor}, {Classifier: _classes, Regressor: _values}


def set_opset(made: Any) -> None:
    """Say the opset of TreeEnsemble where a graph has one; what else skl2onnx writes has not changed since."""
    if any(node.op_type == "TreeEnsemble" for node in made.graph.node):
        made.ir_version = max(made.ir_version, _IR_VERSION)
        for opset in made.opset_import:
            if opset.domain == "ai.onnx.ml":
                opset.version = ML_OPSET


def _raw(scope: Any, operator: Any, container: Any) -> tuple[_Nodes, str]:
    """The nodes of the graph, and the name of the raw predictions in it."""
    add = _Nodes(scope, container)
    model = operator.raw_operator
    given = add("Cast", [operator.inputs[0].full_name], to=_DOUBLE)
    if model._preprocessor is not None:
        given = _without_strangers(add, given, model.is_categorical_)
    attributes = ensemble(model)
    # skl2onnx knows opsets up to 3; the whole graph says ML_OPSET in the end.
    return add, add("TreeEnsemble", [given], op_domain="ai.onnx.ml", op_version=3, **attributes)


def _without_strangers(add: _Nodes, given: str, categorical: Any) -> str:
    """The features, with NaN for what can be no category: a set would take 2.5 for 2."""
    whole = add("Equal", [given, add("Floor", [given])])
    small = add("Less", [add("Abs", [given]), add.constant(_DOUBLE, [], [float(_MAX_MEMBER)])])
    other = add.constant(_BOOL, [len(categorical)], [not one for one in categorical])
    kept = add("Or", [other, add("And", [whole, small])])
    return add("Where", [kept, given, add.constant(_DOUBLE, [], [math.nan])])


class _Nodes:
    """Adds nodes to a graph; each gives the name of its one output."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope = scope
        self.container = container

    def __call__(self, kind: str, inputs: list[str], output: str = "", **more: Any) -> str:
        output = output or self.scope.get_unique_variable_name(kind.lower())
        more.setdefault("op_version", 13)
        self.container.add_node(kind, inputs, [output], name=self.scope.get_unique_operator_name(kind), **more)
        return output

    def constant(self, kind: int, shape: list[int], values: list[Any]) -> str:
        name: str = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, kind, shape, values)
        return name


def _classifier(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    add, raw = _raw(scope, operator, container)
    flat = add.constant(_INT64, [1], [-1])
    if model.n_trees_per_iteration_ == 1:
        found = add("Greater", [raw, add.constant(_DOUBLE, [], [0.0])])
        chosen = add("Reshape", [add("Cast", [found], to=_INT64), flat])
        late = add("Sigmoid", [raw])
        chances = [add("Sub", [add.constant(_DOUBLE, [], [1.0]), late]), late]
        add("Concat", chances, operator.outputs[1].full_name, axis=1)
    else:
        chosen = add("ArgMax", [raw], axis=1, keepdims=0)
        add("Softmax", [raw], operator.outputs[1].full_name, axis=1)
    labels = add.constant(*_labels(model.classes_))
    add("Gather", [labels, chosen], operator.outputs[0].full_name)


def _labels(classes: Any) -> tuple[int, list[int], list[Any]]:
    """The classes as a constant: type, shape, values."""
    if classes.dtype.kind in "biu":
        return _INT64, [len(classes)], [int(one) for one in classes]
    if all(isinstance(one, str) for one in classes):
        return _TEXT, [len(classes)], [str(one).encode() for one in classes]
    raise NotImplementedError("its classes are neither whole numbers nor text")


def _regressor(scope: Any, operator: Any, container: Any) -> None:
    link = type(operator.raw_operator._loss.link).__name__
    kinds = {"IdentityLink": "Identity", "LogLink": "Exp"}
    if link not in kinds:
        raise NotImplementedError(f"its loss has {link}")
    add, raw = _raw(scope, operator, container)
    add(kinds[link], [raw], operator.outputs[0].full_name)


def _classes(operator: Any) -> None:
    from skl2onnx.common import data_types

    rows, classes = operator.inputs[0].get_first_dimension(), operator.raw_operator.classes_
    label = data_types.StringTensorType if _labels(classes)[0] == _TEXT else data_types.Int64TensorType
    operator.outputs[0].type = label([rows])
    operator.outputs[1].type = data_types.DoubleTensorType([rows, len(classes)])


def _values(operator: Any) -> None:
    from skl2onnx.common import data_types

    operator.outputs[0].type = data_types.DoubleTensorType([operator.inputs[0].get_first_dimension(), 1])
