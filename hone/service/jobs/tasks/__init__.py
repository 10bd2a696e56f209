"""What is specific to a task in fine-tuning jobs: a module for each, behind one contract."""
