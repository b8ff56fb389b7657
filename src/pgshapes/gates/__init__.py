"""Readiness and admission control: the checks that a request must pass first."""
