"""One module a framework; each is imported by its own name and imports its framework then."""
