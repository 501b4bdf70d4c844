"""Measuring Condau (`make bench`) and torturing it (`make torture`)."""
