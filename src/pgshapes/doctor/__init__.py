"""The checks of a database: from facts about it to findings."""
