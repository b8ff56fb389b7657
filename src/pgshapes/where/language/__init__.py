"""A clause as text and as a typed tree: grammar, analysis, SQL. Pure."""
