"""The code that runs beside DAGMan, and the local backend."""
