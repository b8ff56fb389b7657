"""Metrics: values that processes send to each other, and their exposition in Prometheus text format."""
