"""What lies between machines, and between the processes of one: links, and what may be wrong with them."""
