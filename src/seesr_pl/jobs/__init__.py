"""Restore or tag many files, in one process or in one process per device."""
