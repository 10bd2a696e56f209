"""CTranslate2: its batch, fp32 or int8. Run with its library on the path."""

import time

import ctranslate2

from benchmarks.decoding.model import FOLDER, random_llama
from benchmarks.decoding.prompts import Run, groups, prompts


def make(variant: str, threads: int) -> Run:
    folder = FOLDER / f"ctranslate2-{variant}"
    compute = "int8" if variant == "int8" else "float32"
    if not folder.is_dir():
        converter = ctranslate2.converters.TransformersConverter(str(random_llama()))
        converter.convert(str(folder), quantization=compute)
    model = ctranslate2.Generator(
        str(folder), device="cpu", compute_type=compute, intra_threads=threads
    )

    def decode(streams: int, tokens: int) -> float:
        words = [[f"w{token}" for token in prompt] for prompt in prompts(streams)]
        started = time.perf_counter()
        said = model.generate_batch(
            words,
            max_length=tokens,
            min_length=tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        elapsed = time.perf_counter() - started
        if any(len(one.sequences_ids[0]) != tokens for one in said):
            raise RuntimeError("it said another number of tokens")
        return elapsed

    return lambda streams, wanted: sum(
        decode(len(group), max(group)) for group in groups(streams, wanted)
    )
