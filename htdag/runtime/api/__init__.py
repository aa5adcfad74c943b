"""The part of htdag that functions can use in a job."""
