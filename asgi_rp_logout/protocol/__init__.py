"""What the specifications say, without I/O, clock or randomness: those are arguments."""
