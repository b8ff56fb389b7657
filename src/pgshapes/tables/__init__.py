"""Tables that the owner writes and every process reads, and the links that carry them between processes."""
