"""Generated messages, client stubs and servicers of the Remora API, one module for each file in `proto/remora/v1`."""
