"""Embeddings of texts by the embedded base, in numpy: no torch, no export, nothing to train.

A BERT encoder (Devlin et al. 2019) with mean pooling and unit length, which is how the sentence
transformers that the catalogue names were trained. It reads the base's own safetensors; a test
holds it against transformers.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from hone.models.catalogue import Base, find_base
from hone.models.durable import write_atomically
from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput
from hone.models.examples import sha256_of_file
from hone.models.prompting.arm import EncoderForm
from hone.models.prompting.blas_threads import one_blas_thread
from hone.models.prompting.tensors import read_tensors
from hone.models.tokenizer import IntArray, TextTokenizer

_TOKENS_IN_BATCH = 2048
_BLOCKED = np.float32(-1e9)
_WEIGHTS = "model.safetensors"
_GELU_PIECE = 2**14
_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)

Progressed = Callable[[int], None]


@dataclass(frozen=True)
class BertEncoder:
    """A BERT encoder's weights and tokenizer. Thread-safe."""

    weights: Mapping[str, FloatArray]
    tokenizer: TextTokenizer
    form: EncoderForm
    revision: str

    @classmethod
    def from_base(cls, name: str) -> "BertEncoder":
        """Load a base of the catalogue or a folder; InvalidInput if it is no BERT encoder."""
        base = find_base(name)
        files = encoder_files(base)
        return cls.load(*files, encoder_form(base), f"the base {base.id}")

    @classmethod
    def load(cls, weights: Path, tokenizer: Path, form: EncoderForm, name: str) -> "BertEncoder":
        """Load safetensors and a tokenizer.json; InvalidInput names what they are not."""
        stored = read_tensors(weights)
        encoder = cls(
            weights={key.removeprefix("bert."): _array(value) for key, value in stored.items()},
            tokenizer=TextTokenizer.from_file(tokenizer, max_tokens=form.max_tokens),
            form=form,
            revision=sha256_of_file(weights),
        )
        encoder.check(name)
        return encoder

    def check(self, name: str) -> None:
        """Embed one word; InvalidInput if a weight is missing or has another shape."""
        try:
            self.embed(["a"])
        except (KeyError, ValueError, IndexError):
            raise InvalidInput(f"{name} has not the weights of a BERT encoder") from None

    def embed(self, texts: Sequence[str], progressed: Progressed | None = None) -> FloatArray:
        """Return float32 vectors of length 1, of shape (texts, hidden).

        Texts of similar length share a batch; `progressed` is told how many each batch had. A text
        by itself is computed on one thread, which a busy machine hardly slows down.
        """
        with one_blas_thread() if len(texts) == 1 else nullcontext():
            return self._embedded(texts, progressed)

    def _embedded(self, texts: Sequence[str], progressed: Progressed | None) -> FloatArray:
        tokenized = self.tokenizer.encode(texts)
        order = sorted(range(len(texts)), key=lambda place: len(tokenized[place].ids))
        found: dict[int, FloatArray] = {}
        while order:
            longest = len(tokenized[order[-1]].ids)
            batch = order[-max(1, _TOKENS_IN_BATCH // longest) :]
            del order[-len(batch) :]
            vectors = self._vectors(*self.tokenizer.pad([tokenized[place] for place in batch]))
            found |= dict(zip(batch, vectors, strict=True))
            if progressed is not None:
                progressed(len(batch))
        return np.stack([found[place] for place in range(len(texts))])

    def _vectors(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """Return unit vectors (texts, hidden) for ids and mask, int64 of shape (texts, tokens)."""
        words = self.weights["embeddings.word_embeddings.weight"][ids]
        places = self.weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self.weights["embeddings.token_type_embeddings.weight"][0]
        state = self._norm(words + places + kind, "embeddings.LayerNorm")
        blocked = np.where(mask[:, None, None, :] == 0, _BLOCKED, np.float32(0))
        for layer in range(self.form.layers):
            state = self._layer(state, blocked, f"encoder.layer.{layer}")
        weight = mask[..., None].astype(np.float32)
        mean = (state * weight).sum(axis=1) / weight.sum(axis=1)
        unit: FloatArray = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        return unit

    def _layer(self, state: FloatArray, blocked: FloatArray, name: str) -> FloatArray:
        attended = self._linear(
            self._attention(state, blocked, f"{name}.attention.self"),
            f"{name}.attention.output.dense",
        )
        state = self._norm(state + attended, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(state, f"{name}.intermediate.dense"))
        outer = self._linear(inner, f"{name}.output.dense")
        return self._norm(state + outer, f"{name}.output.LayerNorm")

    def _attention(self, state: FloatArray, blocked: FloatArray, name: str) -> FloatArray:
        texts, tokens, hidden = state.shape
        width = hidden // self.form.heads

        def headed(part: str) -> FloatArray:
            flat = self._linear(state, f"{name}.{part}")
            return flat.reshape(texts, tokens, self.form.heads, width).transpose(0, 2, 1, 3)

        query, key, value = headed("query"), headed("key"), headed("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width)) + blocked
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = scores / scores.sum(axis=-1, keepdims=True)
        joined: FloatArray = (shares @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, hidden)
        return joined

    def _linear(self, state: FloatArray, name: str) -> FloatArray:
        # As one matrix: numpy multiplies a stack of them one by one, several times slower.
        flat = state.reshape(-1, state.shape[-1]) @ self.weights[f"{name}.weight"].T
        flat += self.weights[f"{name}.bias"]
        return flat.reshape(*state.shape[:-1], -1)

    def _norm(self, state: FloatArray, name: str) -> FloatArray:
        centred = state - state.mean(axis=-1, keepdims=True)
        variance = (centred**2).mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(variance + np.float32(self.form.epsilon))
        found: FloatArray = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return found


def kept_embeddings(
    encoder: BertEncoder,
    texts: Sequence[str],
    folder: Path,
    progressed: Progressed | None = None,
) -> FloatArray:
    """Embed texts, or read what an earlier run in `folder` kept of the same texts and weights."""
    kept = read_embeddings(encoder, texts, folder)
    if kept is not None:
        return kept
    vectors = encoder.embed(texts, progressed)
    write_atomically(_kept_in(encoder, texts, folder), vectors.astype("<f4").tobytes())
    return vectors


def read_embeddings(encoder: BertEncoder, texts: Sequence[str], folder: Path) -> FloatArray | None:
    """Read what a run in `folder` kept of these texts and weights; None if it kept nothing.

    float32 of shape (texts, hidden).
    """
    path = _kept_in(encoder, texts, folder)
    hidden = encoder.weights["embeddings.LayerNorm.weight"].shape[0]
    if path.is_file() and path.stat().st_size == len(texts) * hidden * 4:
        return np.fromfile(path, dtype="<f4").reshape(len(texts), hidden)
    return None


def _kept_in(encoder: BertEncoder, texts: Sequence[str], folder: Path) -> Path:
    digest = hashlib.sha256(encoder.revision.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return folder / f"embeddings-{digest.hexdigest()[:32]}.f32"


def nearest(
    questions: npt.NDArray[np.float32], examples: npt.NDArray[np.float32], count: int
) -> IntArray:
    """Return the places of each question's nearest examples, int64 of shape (questions, count).

    The nearest first, by the cosine of unit vectors; of equals the one that stands first.
    """
    count = min(count, len(examples))
    found = np.empty((len(questions), count), dtype=np.int64)
    for start in range(0, len(questions), 256):
        likeness = questions[start : start + 256] @ examples.T
        found[start : start + 256] = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
    return found


def encoder_files(base: Base) -> tuple[Path, Path]:
    """Return where a base has its weights and its tokenizer."""
    return base.folder / _WEIGHTS, base.folder / "tokenizer.json"


def encoder_form(base: Base) -> EncoderForm:
    """Return what a base's configuration says; InvalidInput if it is no BERT encoder."""
    config = orjson.loads((base.folder / "config.json").read_bytes())
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu":
        raise InvalidInput(f"the base {base.id} is no BERT encoder: give another one, or minilm")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise InvalidInput(f"the base {base.id} has no absolute positions: give minilm")
    return EncoderForm(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        max_tokens=base.max_tokens,
    )


def _array(value: npt.NDArray[np.floating]) -> FloatArray:
    return value.astype(np.float32)


def _gelu(state: FloatArray) -> FloatArray:
    """Return x/2 (1 + erf(x/sqrt 2)), in pieces that stay in the processor's cache."""
    flat = state.reshape(-1)
    for start in range(0, len(flat), _GELU_PIECE):
        piece = flat[start : start + _GELU_PIECE]
        piece *= np.float32(0.5) * (erf(piece * np.float32(np.sqrt(0.5))) + np.float32(1))
    return state


def erf(values: FloatArray) -> FloatArray:
    """Return the error function in float32, to 4e-7.

    The rational approximation on [-4, 4] that Eigen and XLA use: some ten times faster here than
    SciPy's, which is made for double precision.
    """
    clipped = np.clip(values, -4, 4)
    square = clipped * clipped
    above = np.full_like(square, _ERF_ABOVE[0])
    for coefficient in _ERF_ABOVE[1:]:
        above *= square
        above += np.float32(coefficient)
    below = np.full_like(square, _ERF_BELOW[0])
    for coefficient in _ERF_BELOW[1:]:
        below *= square
        below += np.float32(coefficient)
    above *= clipped
    above /= below
    return above
