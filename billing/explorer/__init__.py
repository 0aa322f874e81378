"""What an organization used, told by whatever it can be told by: questions, answers, files."""
