"""What any product would need: environment, errors, jobs, Redis, ids. Knows nothing about this one."""
