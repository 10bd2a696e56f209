"""The job store: keys, files, uploads, fine-tuning jobs, and who works on them."""
