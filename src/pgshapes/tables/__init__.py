"""Owner-written, caller-readable maps, and the links that carry them to other processes."""
