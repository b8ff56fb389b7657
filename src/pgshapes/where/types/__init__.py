"""The types that a clause can compute with: their values in Python, and what their operators, functions and
casts do.

Pure. A module is one type or a few that are alike; `registry.py` lists all. An operation is either a source
template or a function that is called; neither ever sees a NULL unless its function is not strict in Postgres.
"""
