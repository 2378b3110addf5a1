"""One file for each system whose clients are served: its paths, its words, its errors."""
