"""What is told to others: events kept in an outbox, and their delivery by signed webhooks and by e-mail."""
