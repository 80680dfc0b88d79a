"""The command line: thin over the cluster handle. Nothing else in the package prints for people."""
