"""What is counted and measured, and the answers to C{stats}."""
