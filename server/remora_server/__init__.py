"""The Remora server: attachments over gRPC, kept in a database and a blob store."""
