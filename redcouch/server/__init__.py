"""One client: its socket, its session, and who is let in."""
