"""The HTTP shell every room's routes stand in: operations, access, problems, pages."""
