"""What every page has in common: frame, pictures, files that are whole or not there."""
