"""Other evaluation tools drive our endpoints unmodified, in an environment of their own: `make peers`."""
