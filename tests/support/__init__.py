"""What several test rooms share: servers, clients, documents and records to test with."""
