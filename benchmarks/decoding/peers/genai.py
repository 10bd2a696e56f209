"""onnxruntime-genai: its own loop over a static batch."""

import json
import time

import numpy as np
import onnxruntime_genai

from benchmarks.decoding.model import genai_model
from benchmarks.decoding.prompts import PROMPT_TOKENS, Run, groups, prompts


def make(variant: str, threads: int) -> Run:
    config = onnxruntime_genai.Config(str(genai_model(variant)))
    options = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = onnxruntime_genai.Model(config)

    def decode(streams: int, tokens: int) -> float:
        started = time.perf_counter()
        parameters = onnxruntime_genai.GeneratorParams(model)
        longest = PROMPT_TOKENS + tokens
        parameters.set_search_options(
            do_sample=False, max_length=longest, min_length=longest, batch_size=streams
        )
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(np.array(prompts(streams), dtype=np.int32))
        for _ in range(tokens):
            generator.generate_next_token()
        return time.perf_counter() - started

    return lambda streams, wanted: sum(
        decode(len(group), max(group)) for group in groups(streams, wanted)
    )
