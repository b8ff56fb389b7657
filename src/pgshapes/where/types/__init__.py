"""Values of Postgres types in Python: decoding what the server writes, reading what a user writes, writing
both.

Pure. `type_io.py` is the list of all types; the other modules are one kind of type each.
"""
