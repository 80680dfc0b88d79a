"""The wanted processes, and the two ways to run them: supervisord in the background, honcho in the foreground."""
