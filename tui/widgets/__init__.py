"""What Textual shows: drawings, tables, windows."""
