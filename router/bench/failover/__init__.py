"""What clients notice when one of two servers dies."""
