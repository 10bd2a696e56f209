"""An adapter on its base beside the merged export: `python -m benchmarks.decoding.merged FOLDER`.

Random LoRA of several ranks on a base in FOLDER, in fp32. Prints the largest difference of a logit
over all places of the prompts, and the largest change that the adapters make.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from hone.models.decoding.engine import OnnxDecoder
from hone.training.causal.export import export_decoder
from tests.training.causal import reference
from tests.training.causal.adapting import as_weights, merged, random_lora

RANKS = (1, 4, 16, 24, 40)
_LONGEST = 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    asked = parser.parse_args()
    base: Path = asked.folder
    prompts = reference.prompts(base, asked.prompts, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        export_decoder(base, "fp32", scratch / "base.onnx", adapters=True)
        engine = OnnxDecoder(scratch / "base.onnx", slots=2, longest=_LONGEST)
        for seed, rank in enumerate(RANKS):
            own = scratch / str(rank)
            own.mkdir()
            lora = random_lora(base, rank, seed)
            merged(base, lora).save_pretrained(own / "merged")
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(base / name, own / "merged")
            export_decoder(own / "merged", "fp32", own / "merged.onnx")
            alone = OnnxDecoder(own / "merged.onnx", slots=1, longest=_LONGEST)
            number = engine.load_adapter(as_weights(base, lora, own))
            apart = change = 0.0
            for ids in prompts:
                found = engine.prefill(1, ids, 0, every=True, adapter=number)
                bare = engine.prefill(0, ids, 0, every=True)
                expected = alone.prefill(0, ids, 0, every=True)
                apart = max(apart, float(np.abs(found - expected).max()))
                change = max(change, float(np.abs(found - bare).max()))
            print(f"rank {rank}: at most {apart:.1e} apart; the adapter changes up to {change:.1f}")


if __name__ == "__main__":
    main()
