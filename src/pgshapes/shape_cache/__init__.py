"""Finds the handle of the live shape of a definition, for callers."""
