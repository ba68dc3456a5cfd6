"""For authors of the course: what a lab still lacks, and a new lab to begin with."""
