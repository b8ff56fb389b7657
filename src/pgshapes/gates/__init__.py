"""What a request must pass before it is looked at: readiness and admission."""
