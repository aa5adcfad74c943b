"""What a run has done, folded from its records and what its backend says."""
