"""What is asked of the record: the named queries, people's own SQL, and answers made of several."""
