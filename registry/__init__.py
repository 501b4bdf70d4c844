"""Who exists: agencies, subscribers, client systems and people with roles, and what each may do."""
