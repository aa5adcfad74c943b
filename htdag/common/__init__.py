"""What knows nothing else of htdag."""
