"""The Shape HTTP API as a plain ASGI 3 application."""
