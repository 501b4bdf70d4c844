"""Programs that we did not write judge what the whole of Condau makes."""
