"""The only folder that opens a Postgres connection."""
