"""What is measured of answers, apart from any model."""
