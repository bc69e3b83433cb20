"""The benchmark (bench/): what it asks, what it makes of the answers, and its options."""
