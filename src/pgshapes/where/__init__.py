"""The WHERE clause: parsed, typed by Postgres's rules, compiled to Python, and planned for an index. Pure."""
