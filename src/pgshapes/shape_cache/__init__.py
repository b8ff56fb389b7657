"""From a definition to the one live handle that stands for it."""
