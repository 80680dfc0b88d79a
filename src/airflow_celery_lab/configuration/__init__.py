"""What a lab is made of: its three roots, settings, secrets, processes and their environment."""
