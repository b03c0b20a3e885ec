"""From a traced network to the deploy graph, the one description that validation and export share."""
