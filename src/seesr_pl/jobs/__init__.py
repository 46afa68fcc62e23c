"""Work on many files: restored or tagged, by one process or by one for each device."""
