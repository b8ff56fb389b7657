"""What only the replicator runs: the one writer of tables, logs and catalogue, and its life with its database."""
