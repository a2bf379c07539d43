"""The certificates that our ports show: given as files, or signed by an authority of our own."""
