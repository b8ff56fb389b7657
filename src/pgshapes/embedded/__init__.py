"""An embedded Postgres server for `pgshapes dev` and for tests."""
