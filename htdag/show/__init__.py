"""Text, tables, diagrams and live displays; nothing below imports it at its top."""
