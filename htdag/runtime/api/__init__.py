"""What functions can use of htdag in a job."""
