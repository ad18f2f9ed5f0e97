"""Agent runs: clients' requests that name a run and read each other's answers while these are being written."""
