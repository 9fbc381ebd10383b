"""What `benches/run` is made of; a file for each part, the standard library only."""
