"""The processes of the server: the supervisor and its children, the HTTP server, the metrics listener."""
