"""Immutable data types that all other packages use. Imports nothing else of pgshapes."""
