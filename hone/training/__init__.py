"""Makes bundles: examples -> fine-tuned -> evaluated -> exported -> checked -> published."""
