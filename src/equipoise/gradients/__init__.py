"""What is measured of several losses, and how it reaches ``.grad``."""
