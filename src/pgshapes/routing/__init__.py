"""From a committed transaction to the log entries of each shape. Pure."""
