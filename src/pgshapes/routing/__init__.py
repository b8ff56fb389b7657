"""Routes committed transactions to the log entries of each shape. Pure."""
