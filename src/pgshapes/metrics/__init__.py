"""What is counted, as values that cross process borders, and how it is told to whoever asks."""
