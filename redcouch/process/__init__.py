"""One process, whatever it serves: its signals, its log, what the system is asked and told."""
