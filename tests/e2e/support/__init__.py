"""What the end-to-end suites stand on: an Ekiden of their own, images, load, and counts."""
