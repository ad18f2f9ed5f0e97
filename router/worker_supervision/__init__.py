"""Background tasks for workers: probing, first generations, draining."""
