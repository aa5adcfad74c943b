"""The code that runs in a job."""
