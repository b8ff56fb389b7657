"""A shape's rows and changes as ready JSON in files, and how they survive a crash."""
