"""The log store in files: the owner appends, every process reads."""
