"""All access to the database; `embedded` alone opens other connections."""
