"""Fine-tuning causal language models: conversations in, a Hugging Face folder out."""
