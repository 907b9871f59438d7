"""What every run shares: data, masking, strategies, training, evaluation, run directories."""
