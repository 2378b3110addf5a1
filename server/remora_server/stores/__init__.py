"""What keeps things: rows in a database, bytes in a blob store. Nothing outside of here knows how."""
