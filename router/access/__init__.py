"""Who may use the router: clients, their API keys, and what each of them may do."""
