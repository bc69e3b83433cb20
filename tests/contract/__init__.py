"""What every storage has to do, said once and run on each of them."""
