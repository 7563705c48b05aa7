"""What every room leans on: files, devices, progress, signals, and what is read of strangers with
suspicion."""
