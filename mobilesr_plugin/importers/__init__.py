"""Other projects' checkpoints as this project's: read, convert, verify against the original, write."""
