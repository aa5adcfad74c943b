"""Text, tables, diagrams and live displays; imported only where something is shown."""
