"""Media: what a file is and how it looks; decoders run elsewhere."""
