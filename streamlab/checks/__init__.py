"""What the labs' checks are made of: one module or folder a lab, and what they share."""
