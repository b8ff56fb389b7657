"""The WHERE language: parse, check, compile to Python, plan the index. Pure."""
