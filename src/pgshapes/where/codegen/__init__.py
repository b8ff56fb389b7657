"""Typed tree → Python source of a predicate. Pure; constants are bound as names and never become source."""
