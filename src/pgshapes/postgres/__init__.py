"""Everything that talks to the database; only `embedded`, beside it, opens connections of its own."""
