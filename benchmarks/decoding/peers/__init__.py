"""Who takes part, one module each: `make(variant, threads)` returns what decodes."""
