"""How tasks begin, end and wait for one another: notices, polls, shared work, batches, fair queues.

Each module names the race that it closes and what would be lost without it. All state is in memory and of one
event loop.
"""
