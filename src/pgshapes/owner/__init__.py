"""Code that only the replicator runs: it writes the tables, logs and catalogue, and reads replication."""
