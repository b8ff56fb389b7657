"""The log store in files: the owner appends, all processes read."""
