"""The graph of a model that was exported once, with other weights of the same model.

The model builder takes seconds to start, whatever the model's size. What it wrote is the same graph
for each checkpoint of a run, so the weights are found in it by their content and replaced. Only
where every weight is found, as it is or transposed, and none looks like another: a builder that
folds or pads some is run anew. The gate judges the result as it does any export.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

Weights = Mapping[str, npt.NDArray[np.float32]]
"""A model's weights by name, each once though it may be used in several places."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Which weight stands in a part of an initializer, and whether transposed."""

    weight: str
    transposed: bool

    def of(self, weights: Weights) -> npt.NDArray[np.float32]:
        """Return the weight as it stands there."""
        value = weights[self.weight]
        return value.T if self.transposed else value


@dataclass(frozen=True, slots=True)
class WeightPlaces:
    """Where a graph's weights are, by the names of its initializers.

    Several weights may stand side by side in one, as an attention's three projections do.
    """

    places: Mapping[str, Sequence[Piece]]

    def write(self, graph: Path, weights: Weights, path: Path) -> None:
        """Write the graph in the file `graph` with these weights to `path`."""
        model = onnx.load(str(graph))
        for initializer in model.graph.initializer:
            pieces = self.places.get(initializer.name)
            if pieces is not None:
                value = np.concatenate([piece.of(weights) for piece in pieces], axis=-1)
                laid = np.ascontiguousarray(value)
                initializer.CopyFrom(numpy_helper.from_array(laid, initializer.name))
        onnx.save(model, str(path))


def find_weights(graph: Path, weights: Weights) -> WeightPlaces | None:
    """Return where the graph in a file holds the weights that it was made from.

    None unless each of them is found, and can be told from every other.
    """
    known: dict[str, Piece] = {}
    for name, value in weights.items():
        keys = {_key(value): False}
        if value.ndim == 2:
            keys.setdefault(_key(value.T), True)
        for key, transposed in keys.items():
            if key in known:
                return None
            known[key] = Piece(name, transposed)
    widths = {size for value in weights.values() for size in value.shape}
    places: dict[str, Sequence[Piece]] = {}
    for initializer in onnx.load(str(graph)).graph.initializer:
        if initializer.data_type == TensorProto.FLOAT and initializer.dims:
            pieces = _pieces(numpy_helper.to_array(initializer), known, widths)
            if pieces is not None:
                places[initializer.name] = pieces
    found = {piece.weight for pieces in places.values() for piece in pieces}
    return WeightPlaces(places) if found == set(weights) else None


def _pieces(
    value: npt.NDArray[np.float32], known: Mapping[str, Piece], widths: Iterable[int]
) -> Sequence[Piece] | None:
    """Return the weights that stand side by side in an initializer; None if it holds others."""
    end, at, pieces = value.shape[-1], 0, []
    while at < end:
        fitting = sorted((width for width in widths if width <= end - at), reverse=True)
        blocks = ((width, known.get(_key(value[..., at : at + width]))) for width in fitting)
        width, piece = next(((w, found) for w, found in blocks if found), (0, None))
        if piece is None:
            return None
        pieces.append(piece)
        at += width
    return pieces


def _key(value: npt.NDArray[np.float32]) -> str:
    content = hashlib.sha256(np.ascontiguousarray(value, dtype=np.float32).tobytes())
    return f"{value.shape} {content.hexdigest()}"
