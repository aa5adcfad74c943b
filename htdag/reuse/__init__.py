"""What of another run can be taken over, and why the rest cannot."""
