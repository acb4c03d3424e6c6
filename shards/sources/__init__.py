"""One adapter a catalogue: each parses rows or folders and yields products, and decides nothing else."""
