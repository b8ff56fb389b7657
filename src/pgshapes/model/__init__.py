"""Pure nouns: what the other folders talk about. Imports nothing of pgshapes."""
