"""Stores a shape's rows and changes as JSON text, durably."""
