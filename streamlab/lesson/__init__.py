"""What notebooks show: measurements, verdicts, charts, the wire."""
