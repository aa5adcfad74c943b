"""What runs in a job."""
