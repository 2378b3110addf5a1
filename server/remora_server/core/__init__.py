"""The rules of attachments: no transport, no database, no files."""
