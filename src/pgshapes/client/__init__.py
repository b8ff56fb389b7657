"""A client of the Shape HTTP API: `ShapeStream` and `Shape`."""
