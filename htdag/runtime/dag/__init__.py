"""What runs beside DAGMan, and as the local backend."""
