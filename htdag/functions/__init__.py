"""What functions reach, how they travel, and what of them counts as a change."""
