"""Typed tree → Python source → functions. Pure. Constants are bound to names and never become source."""
