"""What a design costs: `estimate` and `mapping` here, the models they ask in the rooms below."""
