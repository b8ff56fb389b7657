"""The processes that `pgshapes serve` consists of."""
