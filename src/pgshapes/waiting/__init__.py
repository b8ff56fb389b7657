"""How tasks wait for one another: notices, polls with a backoff, shared work, batches, fair queues."""
