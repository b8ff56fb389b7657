"""What operators, functions and casts do, as Python: one module per kind of value, `registry.py` lists all.

Pure. An operation is either a source template or a function that is called; neither ever sees a NULL unless
its function is not strict in Postgres.
"""
