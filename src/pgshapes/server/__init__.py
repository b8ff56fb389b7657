"""Processes: the supervisor and its children, the HTTP server, the metrics listener."""
