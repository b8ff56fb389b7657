"""The clause as text, as syntax tree, as typed tree, and as SQL. Pure."""
