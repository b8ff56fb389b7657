"""What only the replicator runs: it alone writes tables, logs and catalogue, and follows the database."""
